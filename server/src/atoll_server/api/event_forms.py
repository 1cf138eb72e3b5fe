# SPDX-License-Identifier: Apache-2.0
"""Events as an answer that grows: NDJSON or server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from atoll_server.api.forms import NDJSON_TYPE, SSE_TYPE
from atoll_server.api.object_forms import Object, ObjectEvents, ObjectLines
from atoll_server.api.streaming import Form
from atoll_server.engine.events import SandboxEvent

RenderEvent = Callable[[SandboxEvent], Mapping[str, Any]]


class Beginning(Protocol):
    """Behind which event the stream begins: what is needed of an engine's `Reading`."""

    place: str


class _Objects:
    """Events as objects, with their ids. The first object says where to resume before there was any event."""

    end_type = "end"

    def __init__(self, render: RenderEvent) -> None:
        self._render = render
        self.place = ""

    def begin(self, events: Beginning) -> tuple[Object, ...]:
        self.place = events.place
        return ({"type": "begin", "id": self.place},)

    def event(self, event: SandboxEvent) -> Iterator[Object]:
        self.place = event.id
        yield self._render(event)

    def finish(self) -> tuple[Object, ...]:
        return ()


EVENT_FORMS: Mapping[str, Callable[[RenderEvent], Form[SandboxEvent]]] = {
    NDJSON_TYPE: lambda render: ObjectLines(_Objects(render)),
    SSE_TYPE: lambda render: ObjectEvents(_Objects(render)),
}
