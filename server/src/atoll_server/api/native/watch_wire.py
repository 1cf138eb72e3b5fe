# SPDX-License-Identifier: Apache-2.0
"""Watches and their changes between the wire's records and the engine's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.models import ChangeKind as WireKind
from atoll.models import FileChange as WireChange
from atoll.models import Pagination, WatchInfo, WatchList
from atoll_server.api.native.values import render_nanoseconds, render_path
from atoll_server.api.object_forms import LATEST
from atoll_server.api.records import render_builtins
from atoll_server.engine.model import ChangesEnd, FileChange, Watch, WatchEnd
from atoll_server.engine.watches import WATCHES_LIMIT


@dataclass(frozen=True)
class ChangesQuery:
    """The query of `GET …/changes`."""

    since: int = field(
        default=0,
        metadata={"description": "number of the last change that is known", "ge": 0, "le": LATEST},
    )
    follow: bool = field(
        default=True, metadata={"description": "whether to wait for what goes on to change"}
    )


def render_watch(watch: Watch) -> WatchInfo:
    record = watch.record
    return WatchInfo(
        id=watch.id,
        path=render_path(record.path),
        recursive=record.recursive,
        created_at=render_nanoseconds(record.started_ns),
        first=record.first,
        last=record.last,
        ended=_render_end(record.ended),
    )


def render_watches(found: Sequence[Watch]) -> WatchList:
    pagination = Pagination(total=len(found), limit=WATCHES_LIMIT, offset=0, has_more=False)
    return WatchList(data=[render_watch(watch) for watch in found], pagination=pagination)


def render_change(change: FileChange) -> Mapping[str, Any]:
    """One change in a stream."""
    rendered = WireChange(
        number=change.number,
        kind=WireKind(change.kind.value),
        path=None if change.path is None else render_path(change.path),
        from_path=None if change.from_path is None else render_path(change.from_path),
        is_directory=change.is_directory,
        at=render_nanoseconds(change.at_ns),
    )
    return render_builtins(rendered)


def render_changes_end(end: ChangesEnd) -> Mapping[str, Any]:
    """The last event of a stream."""
    return {"last": end.last, "ended": _render_end(end.ended)}


def _render_end(ended: WatchEnd | None) -> str | None:
    return None if ended is None else ended.value
