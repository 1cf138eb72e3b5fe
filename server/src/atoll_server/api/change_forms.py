# SPDX-License-Identifier: Apache-2.0
"""The changes beneath a watched directory as an answer that grows: NDJSON or server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from atoll_server.api.forms import NDJSON_TYPE, SSE_TYPE
from atoll_server.api.object_forms import Object, ObjectEvents, ObjectLines
from atoll_server.api.streaming import Form
from atoll_server.engine.model import FileChange

RenderChange = Callable[[FileChange], Mapping[str, Any]]


class Beginning(Protocol):
    """Behind which change the stream begins: what is needed of an engine's `Changes`."""

    since: int


class _Objects:
    """Changes as objects, with their numbers."""

    end_type = "end"

    def __init__(self, render: RenderChange) -> None:
        self._render = render
        self.place = 0

    def begin(self, events: Beginning) -> tuple[Object, ...]:
        self.place = events.since
        return ()

    def event(self, change: FileChange) -> Iterator[Object]:
        self.place = change.number
        yield {"type": "change", **self._render(change)}

    def finish(self) -> tuple[Object, ...]:
        return ()


CHANGE_FORMS: Mapping[str, Callable[[RenderChange], Form[FileChange]]] = {
    NDJSON_TYPE: lambda render: ObjectLines(_Objects(render)),
    SSE_TYPE: lambda render: ObjectEvents(_Objects(render)),
}
