# SPDX-License-Identifier: Apache-2.0
"""Events between the wire's records and the engine's: which members the `data` of each type has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from atoll.models import Event as WireEvent
from atoll_server.api.native.command_wire import render_end
from atoll_server.api.native.values import render_instant
from atoll_server.api.records import render_builtins
from atoll_server.engine.events import EventsEnd, SandboxEvent
from atoll_server.engine.happenings import (
    EVENT_TYPES,
    EventsLost,
    ExecCompleted,
    ExecEvent,
    ExecFailed,
    ExecStarted,
    ExecTimedOut,
    Happening,
    NetworkDenied,
    NetworkEgress,
    ProcessOutOfMemory,
    SandboxCreated,
    SandboxError,
    SandboxOutOfMemory,
    SandboxStarted,
    SandboxTerminated,
)
from atoll_server.engine.ids import trace_id

Data = dict[str, Any]


@dataclass(frozen=True)
class EventsQuery:
    """The query of `GET …/events`."""

    type: list[str] | None = field(
        default=None,
        metadata={
            "description": "only events of this type; may be repeated",
            "items_one_of": EVENT_TYPES,
            "max_items": len(EVENT_TYPES),
        },
    )
    since: str | None = field(
        default=None,
        metadata={
            "description": "id of the last event that is known, or `latest` for what happens from now on; "
            "if absent, all that is kept",
            "pattern": "^(latest|evt_[a-z0-9]{10}_[0-9]{1,18})$",
            "pattern_says": "the id of an event, or `latest`",
        },
    )
    follow: bool = field(
        default=True, metadata={"description": "whether to wait for what goes on to happen"}
    )


def render_event(event: SandboxEvent) -> Mapping[str, Any]:
    """One event in a stream."""
    sandbox_id = event.sandbox_id
    rendered = WireEvent(
        id=event.id,
        type=event.what.type,
        timestamp=render_instant(event.at),
        sandbox_id=sandbox_id,
        trace_id=None if sandbox_id is None else trace_id(sandbox_id),
        data=_RENDERERS[type(event.what)](event.what),
    )
    return render_builtins(rendered)


def render_events_end(end: EventsEnd) -> Mapping[str, Any]:
    """The last object of a stream."""
    return {"id": end.id}


def _created(what: SandboxCreated) -> Data:
    limits = what.limits
    resources = {
        "cpu": limits.cpu,
        "memoryMb": limits.memory_mb,
        "diskMb": limits.disk_mb,
        "pids": limits.pids,
        "openFiles": limits.open_files,
    }
    return {"image": what.image, "runtime": what.runtime.value, "resources": resources}


def _started(what: SandboxStarted) -> Data:
    return {"startupDurationMs": _ms(what.startup)}


def _failed(what: SandboxError | ExecFailed) -> Data:
    return {"error": {"code": what.code, "message": _text(what.message)}}


def _out_of_memory(what: SandboxOutOfMemory | ProcessOutOfMemory) -> Data:
    return {"memoryLimitMb": what.memory_mb}


def _terminated(what: SandboxTerminated) -> Data:
    return {
        "totalRuntimeMs": _ms(what.runtime),
        "reason": what.cause.value,
        "detail": what.detail,
    }


def _exec(what: ExecEvent) -> Data:
    line = what.command
    return {
        "processId": what.process,
        "command": _text(line) if isinstance(line, str) else list(map(_text, line)),
        "commandTruncated": what.is_command_cut,
    }


def _exec_started(what: ExecStarted) -> Data:
    return {**_exec(what), "cwd": _text(what.cwd)}


def _exec_completed(what: ExecCompleted) -> Data:
    code, signal = render_end(what.exit.code, what.exit.signal, timed_out=False)
    return {
        **_exec(what),
        "exitCode": code,
        "signal": signal,
        "durationMs": _ms(what.exit.duration),
        "oom": what.exit.oom_killed,
        "stdout": None if what.stdout is None else what.stdout.decode("utf-8", "replace"),
        "stderr": None if what.stderr is None else what.stderr.decode("utf-8", "replace"),
        "truncated": what.is_output_cut,
    }


def _exec_timed_out(what: ExecTimedOut) -> Data:
    _, signal = render_end(what.exit.code, what.exit.signal, timed_out=True)
    return {
        **_exec(what),
        "timeoutMs": None if what.timeout is None else _ms(what.timeout),
        "signal": signal,
        "durationMs": _ms(what.exit.duration),
    }


def _exec_failed(what: ExecFailed) -> Data:
    return {**_exec(what), **_failed(what)}


def _process_out_of_memory(what: ProcessOutOfMemory) -> Data:
    return {**_exec(what), **_out_of_memory(what)}


def _network_denied(what: NetworkDenied) -> Data:
    return {
        "host": what.host,
        "port": what.port,
        "reason": what.reason,
        "text": what.text,
        "count": what.count,
    }


def _network_egress(what: NetworkEgress) -> Data:
    return {
        "host": what.host,
        "port": what.port,
        "connections": what.connections,
        "bytesSent": what.bytes_sent,
        "bytesReceived": what.bytes_received,
    }


def _lost(what: EventsLost) -> Data:
    return {"count": what.count, "reason": what.reason.value}


_RENDERERS: Mapping[type[Happening], Callable[[Any], Data]] = {
    SandboxCreated: _created,
    SandboxStarted: _started,
    SandboxError: _failed,
    SandboxOutOfMemory: _out_of_memory,
    SandboxTerminated: _terminated,
    ExecStarted: _exec_started,
    ExecCompleted: _exec_completed,
    ExecTimedOut: _exec_timed_out,
    ExecFailed: _exec_failed,
    ProcessOutOfMemory: _process_out_of_memory,
    NetworkDenied: _network_denied,
    NetworkEgress: _network_egress,
    EventsLost: _lost,
}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _text(text: str) -> str:
    """Paths inside a sandbox may be any bytes, and JSON holds only text."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
