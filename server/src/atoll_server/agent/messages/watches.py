# SPDX-License-Identifier: Apache-2.0
"""What an agent says of watched directories and their changes."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Raw, Struct, field

from atoll_server.agent.errors import AgentProtocolError
from atoll_server.agent.messages.answers import Answer, Done
from atoll_server.agent.messages.values import Count, Instant, read_text, read_text_or_none
from atoll_server.engine.model import ChangeKind, FileChange, WatchEnd, WatchRecord

Number = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class WatchedReply(Struct, tag_field="event", tag="done"):
    watch: Number
    path: Raw


class WatchReply(Struct):
    watch: Number
    path: Raw
    recursive: bool
    started_ns: Instant
    first: Number
    last: Count
    ended: WatchEnd | None


class WatchesReply(Struct, tag_field="event", tag="watches"):
    watches: list[WatchReply]


class ChangeReply(Struct):
    number: Number
    kind: ChangeKind
    path: Raw
    old_path: Raw = field(name="from")
    directory: bool
    at_ns: Instant


class ChangesReply(Struct, tag_field="event", tag="changes"):
    changes: list[ChangeReply]


class ChangesEnd(Struct, tag_field="event", tag="done"):
    """`last` is the number of the last change told."""

    last: Count
    ended: WatchEnd | None


WATCHED: Final = Answer(WatchedReply)
WATCHES: Final = Answer[WatchesReply | Done](WatchesReply, Done)
CHANGES: Final = Answer[ChangesReply | ChangesEnd](ChangesReply, ChangesEnd)


def read_watch(reply: WatchReply) -> WatchRecord:
    if reply.first > reply.last + 1:
        raise AgentProtocolError("a watch whose oldest change is newer than its newest")
    return WatchRecord(
        number=reply.watch,
        path=read_text(reply.path),
        recursive=reply.recursive,
        started_ns=reply.started_ns,
        first=reply.first,
        last=reply.last,
        ended=reply.ended,
    )


def read_change(reply: ChangeReply) -> FileChange:
    path, old_path = read_text_or_none(reply.path), read_text_or_none(reply.old_path)
    if path is None and reply.kind is not ChangeKind.OVERFLOW:
        raise AgentProtocolError(f"a change of kind {reply.kind.value} without a path")
    if (old_path is not None) != (reply.kind is ChangeKind.RENAMED):
        raise AgentProtocolError("what is renamed has an old path, and nothing else has")
    return FileChange(
        number=reply.number,
        kind=reply.kind,
        path=path,
        from_path=old_path,
        is_directory=reply.directory,
        at_ns=reply.at_ns,
    )
