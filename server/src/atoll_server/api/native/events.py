# SPDX-License-Identifier: Apache-2.0
"""What happens: to one sandbox, or to all."""

from __future__ import annotations

from atoll_server.api.call import Call
from atoll_server.api.event_forms import EVENT_FORMS
from atoll_server.api.native.event_wire import EventsQuery, render_event, render_events_end
from atoll_server.api.reply import Answer
from atoll_server.api.routing import Operation
from atoll_server.api.streaming import stream_events
from atoll_server.engine.events import EventFilter
from atoll_server.engine.keys import Scope
from atoll_server.engine.model import SandboxId


async def stream_all(call: Call) -> Answer:
    return _stream(call, None)


async def stream_one(call: Call) -> Answer:
    return _stream(call, call.sandbox_id)


def _stream(call: Call, sandbox_id: SandboxId | None) -> Answer:
    query = call.query(EventsQuery)
    reading = call.engine.events(
        EventFilter(sandbox_id, frozenset(query.type or ())),
        # An event source that comes back says there where it was; its address is that of its beginning.
        since=call.header(b"last-event-id") or query.since,
        follow=query.follow,
    )
    form = EVENT_FORMS[call.preferred(STREAM_TYPES)](render_event)
    return stream_events(reading, form, render_events_end, call.request_id)


STREAM_TYPES = tuple(EVENT_FORMS)

OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/sandboxes/{id}/events",
        name="streamSandboxEvents",
        summary="What happens to a sandbox and in it, until it has ended; the form is chosen by `Accept`",
        handler=stream_one,
        query=EventsQuery,
        answer=None,
        answer_types=STREAM_TYPES,
        scope=Scope.EVENTS,
        errors=("SANDBOX_NOT_FOUND", "RESOURCE_EXHAUSTED"),
    ),
    Operation(
        method="GET",
        path="/v1/events",
        name="streamEvents",
        summary="What happens to all sandboxes and in them; the form is chosen by `Accept`",
        handler=stream_all,
        query=EventsQuery,
        answer=None,
        answer_types=STREAM_TYPES,
        scope=Scope.EVENTS,
        errors=("RESOURCE_EXHAUSTED",),
    ),
)
