# SPDX-License-Identifier: Apache-2.0
"""What an agent says of processes that were started: their output's place, their records, and how they ended."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Raw, Struct

from atoll_server.agent.errors import AgentProtocolError
from atoll_server.agent.messages.answers import Answer, Done
from atoll_server.agent.messages.values import (
    Count,
    ExitCode,
    Instant,
    Pid,
    SignalNumber,
    read_text_or_none,
)
from atoll_server.engine.model import Exit, ProcessRecord, TerminalSize

MAX_NOTE_BYTES: Final = 16 << 10

Side = Annotated[int, Meta(ge=1, le=65535)]


class ExitReply(Struct, tag_field="event", tag="exit"):
    code: ExitCode | None
    signal: SignalNumber | None
    timed_out: bool
    duration_us: Count
    stdout_bytes: Count
    stderr_bytes: Count


class Attached(Struct, tag_field="event", tag="attached", frozen=True):
    """Where the output begins that follows. `dropped` bytes after what was asked for are gone."""

    process: Count
    pid: Pid
    position: Count
    stdout: Count
    stderr: Count
    dropped: Count


class UpToDate(Struct, tag_field="event", tag="done", frozen=True):
    """All output that there was has been sent."""

    position: Count


class TerminalReply(Struct):
    rows: Side
    cols: Side


class ProcessReply(Struct):
    """`note` is bin, or str where it happens to be UTF-8."""

    process: Count
    pid: Pid
    tag: Annotated[str, Meta(max_length=MAX_NOTE_BYTES)] | None
    note: Raw
    started_ns: Instant
    ended_ns: Instant | None
    code: ExitCode | None
    signal: SignalNumber | None
    timed_out: bool
    first: Count
    position: Count
    stdout_bytes: Count
    stderr_bytes: Count
    stdin: bool
    pty: TerminalReply | None


class ProcessesReply(Struct, tag_field="event", tag="processes"):
    processes: list[ProcessReply]


class Listening(Struct, tag_field="event", tag="listening"):
    """Every process that ends from now on will be told."""


class Taken(Struct, tag_field="event", tag="done"):
    bytes: Count


class Signalled(Struct, tag_field="event", tag="done"):
    signalled: Count


EXIT: Final = Answer(ExitReply)
ATTACHED: Final = Answer(Attached)
END: Final = Answer[ExitReply | UpToDate](ExitReply, UpToDate)
PROCESSES: Final = Answer[ProcessesReply | Done](ProcessesReply, Done)
LISTENING: Final = Answer(Listening)
ENDED: Final = Answer(ProcessesReply)
TAKEN: Final = Answer(Taken)
SIGNALLED: Final = Answer(Signalled)


def read_exit(payload: bytes) -> Exit:
    return _exit(EXIT.read(payload))


def read_end(payload: bytes) -> Exit | None:
    """The last word to one who is attached: an exit, or that this is all for now."""
    reply = END.read(payload)
    return _exit(reply) if isinstance(reply, ExitReply) else None


def _exit(reply: ExitReply) -> Exit:
    if (reply.code is None) == (reply.signal is None):
        raise AgentProtocolError("an exit has either a code or a signal")
    return Exit(
        code=reply.code,
        signal=reply.signal,
        timed_out=reply.timed_out,
        oom_killed=False,
        duration=reply.duration_us / 1e6,
        stdout_bytes=reply.stdout_bytes,
        stderr_bytes=reply.stderr_bytes,
    )


def read_process(reply: ProcessReply) -> ProcessRecord:
    has_ended = reply.code is not None or reply.signal is not None
    if reply.code is not None and reply.signal is not None:
        raise AgentProtocolError("a process ends with either a code or a signal")
    if has_ended != (reply.ended_ns is not None):
        raise AgentProtocolError("a process that ended has a time when, any other has none")
    return ProcessRecord(
        number=reply.process,
        pid=reply.pid,
        tag=reply.tag,
        note=read_text_or_none(reply.note),
        started_ns=reply.started_ns,
        ended_ns=reply.ended_ns,
        code=reply.code,
        signal=reply.signal,
        timed_out=reply.timed_out,
        first_position=reply.first,
        position=reply.position,
        stdout_bytes=reply.stdout_bytes,
        stderr_bytes=reply.stderr_bytes,
        is_stdin_open=reply.stdin,
        terminal=None if reply.pty is None else TerminalSize(reply.pty.rows, reply.pty.cols),
    )
