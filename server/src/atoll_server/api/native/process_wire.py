# SPDX-License-Identifier: Apache-2.0
"""Processes between the wire's records and the engine's."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atoll.models import (
    MAX_TAG_LENGTH,
    CursorPagination,
    ProcessInfo,
    ProcessResult,
    PtySize,
    StartProcess,
)
from atoll.models import ProcessPage as WirePage
from atoll.models import ProcessStatus as WireStatus
from atoll_server.api.native.command_wire import parse_what_to_run, render_end
from atoll_server.api.native.values import render_nanoseconds
from atoll_server.api.object_forms import LATEST
from atoll_server.api.records import render_builtins
from atoll_server.engine.errors import InvalidRequest
from atoll_server.engine.model import (
    Command,
    Process,
    ProcessFilter,
    ProcessId,
    ProcessPage,
    ProcessStatus,
    StartOptions,
    TerminalSize,
    Waited,
)

DEFAULT_USER = "root"
_STATUSES = ", ".join(status.value for status in ProcessStatus)
_HIGHEST_SIGNAL = 64


@dataclass(frozen=True)
class ProcessQuery:
    """The query of `GET …/processes`."""

    status: str | None = field(
        default=None,
        metadata={"description": f"only those; several with commas: {_STATUSES}", "max_length": 64},
    )
    tag: str | None = field(
        default=None, metadata={"description": "only those", "max_length": MAX_TAG_LENGTH}
    )
    pid: int | None = field(
        default=None,
        metadata={"description": "only those; pids are used again", "ge": 1, "le": 2**31 - 1},
    )
    limit: int = field(
        default=100, metadata={"description": "at most so many", "ge": 1, "le": 1000}
    )
    cursor: str | None = field(
        default=None, metadata={"description": "`nextCursor` of the page before", "max_length": 64}
    )


@dataclass(frozen=True)
class StreamQuery:
    """The query of `GET …/stream`."""

    since: int = field(
        default=0, metadata={"description": "position to begin at", "ge": 0, "le": LATEST}
    )
    follow: bool = field(
        default=True, metadata={"description": "whether to wait for what it goes on to write"}
    )


@dataclass(frozen=True)
class AttachQuery:
    """The query of `GET …/attach`."""

    since: int | None = field(
        default=None,
        metadata={
            "description": "position to begin at; if absent, the last 64 KiB are replayed",
            "ge": 0,
            "le": LATEST,
        },
    )


@dataclass(frozen=True)
class StdinQuery:
    """The query of `POST …/stdin`."""

    eof: bool = field(default=False, metadata={"description": "end the process's input with it"})


def parse_start(body: StartProcess) -> tuple[Command, StartOptions]:
    options = StartOptions(
        stdin_open=body.stdin_open,
        tag=body.tag,
        terminal=None if body.pty is None else parse_size(body.pty),
        idle_timeout=None if body.idle_timeout_ms is None else body.idle_timeout_ms / 1000,
    )
    return parse_what_to_run(body, body.timeout_ms), options


def parse_size(body: PtySize) -> TerminalSize:
    return TerminalSize(body.rows, body.cols)


def parse_process_filter(query: ProcessQuery) -> ProcessFilter:
    return ProcessFilter(
        statuses=frozenset(map(_parse_status, query.status.split(",")))
        if query.status
        else frozenset(),
        tag=query.tag,
        pid=query.pid,
        limit=query.limit,
        cursor=None if query.cursor is None else ProcessId(query.cursor),
    )


def parse_signal(value: str | int) -> int:
    """The number of a signal; its name may come with or without `SIG`."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, int):
        if not 1 <= value <= _HIGHEST_SIGNAL:
            raise InvalidRequest(f"`signal` must be 1 to {_HIGHEST_SIGNAL}; got {value}")
        return value
    name = value.upper()
    try:
        return int(signal.Signals[name if name.startswith("SIG") else f"SIG{name}"])
    except KeyError:
        raise InvalidRequest(
            "`signal` must be a signal's name, such as TERM or SIGTERM, or its number"
        ) from None


def render_process(process: Process) -> ProcessInfo:
    return ProcessInfo(**_process_members(process))


def render_process_end(process: Process) -> Mapping[str, Any]:
    """The last event of a stream."""
    return render_builtins(render_process(process))


def render_process_page(page: ProcessPage, limit: int) -> WirePage:
    pagination = CursorPagination(
        limit=limit, has_more=page.next is not None, next_cursor=page.next
    )
    return WirePage(data=[render_process(process) for process in page.items], pagination=pagination)


def render_waited(waited: Waited) -> ProcessResult:
    completed = waited.completed
    return ProcessResult(
        **_process_members(waited.process),
        stdout=completed.stdout.decode("utf-8", "replace"),
        stderr=completed.stderr.decode("utf-8", "replace"),
        truncated=completed.truncated,
        duration_ms=round(completed.exit.duration * 1000),
        timed_out=completed.exit.timed_out,
        oom_killed=completed.exit.oom_killed,
    )


def _process_members(process: Process) -> dict[str, Any]:
    record = process.record
    code, signal_name = (None, None)
    if record.has_ended:
        code, signal_name = render_end(record.code, record.signal, timed_out=record.timed_out)
    return {
        "id": process.id,
        "pid": record.pid,
        "command": process.command if isinstance(process.command, str) else list(process.command),
        "cwd": process.cwd,
        "user": process.user or DEFAULT_USER,
        "tag": record.tag,
        "status": WireStatus(process.status.value),
        "exit_code": code,
        "signal": signal_name,
        "started_at": render_nanoseconds(record.started_ns),
        "exited_at": None if record.ended_ns is None else render_nanoseconds(record.ended_ns),
        "stdout_bytes": record.stdout_bytes,
        "stderr_bytes": record.stderr_bytes,
        "position": record.position,
        "first_position": record.first_position,
        "stdin_open": record.is_stdin_open and not record.has_ended,
        "pty": None if record.terminal is None else PtySize(**dataclasses.asdict(record.terminal)),
    }


def _parse_status(text: str) -> ProcessStatus:
    try:
        return ProcessStatus(text.strip())
    except ValueError:
        raise InvalidRequest(f"`status` must be of {_STATUSES}, with commas between them") from None
