# SPDX-License-Identifier: Apache-2.0
"""Requests and replies of the agent protocol as typed records.

A reply is input from inside the sandbox: it becomes a record only when every field has the type and range it should.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, Union, cast

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.msgpack import Decoder

from atoll_server.agent.errors import AgentError, AgentProtocolError
from atoll_server.agent.frames import check_control
from atoll_server.engine.model import Entry, Exit, FileKind, ProcessRecord, TerminalSize

GENERATION: Final = 4
PROCESSES_GENERATION: Final = 2
"""The first that keeps processes beyond the connection that started them."""
WATCHES_GENERATION: Final = 3
"""The first that watches directories."""
PORTS_GENERATION: Final = 4
"""The first that connects to ports."""
MAX_MESSAGE_CHARACTERS: Final = 300
MAX_NOTE_BYTES: Final = 16 << 10

Fields = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class StartRequest:
    """What to run: `program` is text for a shell or an argument vector. Durations are seconds.

    What stands below `grace` is known to agents of generation 2, and not sent to older ones.
    """

    program: str | Sequence[str]
    cwd: str
    make_cwd: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stdin: bool = False
    timeout: float | None = None
    grace: float = 5.0
    tag: str | None = None
    note: bytes | None = None
    keep_stdin: bool = False
    terminal: TerminalSize | None = None
    idle_timeout: float | None = None
    journal_bytes: int | None = None
    detach: bool = False

    def fields(self, generation: int = GENERATION) -> Fields:
        is_text = isinstance(self.program, str)
        newer = self._newer_fields() if generation >= PROCESSES_GENERATION else {}
        return {
            "op": "start",
            "generation": generation,
            "shell" if is_text else "argv": _program(self.program),
            "cwd": wire_text(self.cwd),
            "make_cwd": self.make_cwd,
            "env": {name: wire_text(value) for name, value in self.env.items()},
            "user": None if self.user is None else wire_text(self.user),
            "stdin": self.stdin,
            "timeout_ms": None if self.timeout is None else _milliseconds(self.timeout),
            "grace_ms": round(self.grace * 1000),
            **newer,
        }

    def _newer_fields(self) -> Fields:
        """Only what is asked for: most commands want nothing but a note."""
        terminal = self.terminal
        fields: Fields = {
            "tag": None if self.tag is None else wire_text(self.tag),
            "note": self.note,
            "keep_stdin": self.keep_stdin or None,
            "pty": None if terminal is None else {"rows": terminal.rows, "cols": terminal.cols},
            "idle_ms": None if self.idle_timeout is None else _milliseconds(self.idle_timeout),
            "journal_bytes": self.journal_bytes,
            "detach": self.detach or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


def wire_text(text: str | bytes) -> str | bytes:
    """str where it is UTF-8, else bytes; surrogate escapes in a str stand for bytes."""
    if isinstance(text, bytes):
        try:
            return text.decode()
        except UnicodeDecodeError:
            return text
    if text.isascii():
        return text
    try:
        return wire_text(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise AgentError("invalid", 0, "a text has surrogates that stand for no byte") from None


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _program(program: str | Sequence[str]) -> str | bytes | list[str | bytes]:
    if isinstance(program, str):
        return wire_text(program)
    return [wire_text(word) for word in program]


Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Id = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Instant = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Side = Annotated[int, Meta(ge=1, le=65535)]
ErrorCode = Literal[
    "invalid",
    "unsupported",
    "generation",
    "not_found",
    "exists",
    "not_a_directory",
    "is_a_directory",
    "not_a_file",
    "not_empty",
    "permission_denied",
    "no_space",
    "name_too_long",
    "loop",
    "read_only",
    "busy",
    "cross_device",
    "limit",
    "unknown_user",
    "bad_directory",
    "program_not_found",
    "program_not_executable",
    "spawn_failed",
    "stdin_closed",
    "slow",
    "refused",
    "io",
]


class ErrorReply(Struct, tag_field="event", tag="error"):
    code: ErrorCode
    errno: Annotated[int, Meta(ge=0, le=4095)]
    message: str


class Hello(Struct, tag_field="event", tag="done", frozen=True):
    """The agent's introduction. `generation` is the highest that it speaks."""

    generation: Annotated[int, Meta(ge=1, le=2**31)]
    version: Annotated[str, Meta(max_length=100)]
    pid: Annotated[int, Meta(ge=1, le=2**31)]
    features: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=100)]


class Started(Struct, tag_field="event", tag="started", frozen=True):
    """`process` names it to the agent, `pid` inside the sandbox."""

    process: Count
    pid: Annotated[int, Meta(ge=1, le=2**31)]


class ExitReply(Struct, tag_field="event", tag="exit"):
    code: Annotated[int, Meta(ge=0, le=255)] | None
    signal: Annotated[int, Meta(ge=1, le=64)] | None
    timed_out: bool
    duration_us: Count
    stdout_bytes: Count
    stderr_bytes: Count


class Attached(Struct, tag_field="event", tag="attached", frozen=True):
    """Where the output begins that follows. `dropped` bytes after what was asked for are gone."""

    process: Count
    pid: Annotated[int, Meta(ge=1, le=2**31)]
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
    pid: Annotated[int, Meta(ge=1, le=2**31)]
    tag: Annotated[str, Meta(max_length=MAX_NOTE_BYTES)] | None
    note: Raw
    started_ns: Instant
    ended_ns: Instant | None
    code: Annotated[int, Meta(ge=0, le=255)] | None
    signal: Annotated[int, Meta(ge=1, le=64)] | None
    timed_out: bool
    first: Count
    position: Count
    stdout_bytes: Count
    stderr_bytes: Count
    stdin: bool
    pty: TerminalReply | None


class ProcessesReply(Struct, tag_field="event", tag="processes"):
    processes: list[ProcessReply]


class Taken(Struct, tag_field="event", tag="done"):
    bytes: Count


class Signalled(Struct, tag_field="event", tag="done"):
    signalled: Count


class EntryReply(Struct):
    """Texts are str or bin, which msgspec cannot say in one type; they stay encoded until `read_entry`."""

    name: Raw
    path: Raw
    kind: FileKind = msgspec.field(name="type")
    size: Count
    mode: Annotated[int, Meta(ge=0, le=0o7777)]
    uid: Id
    gid: Id
    user: Raw
    group: Raw
    modified_ns: Instant
    target: Raw


class StatReply(Struct, tag_field="event", tag="done"):
    entry: EntryReply


class EntriesReply(Struct, tag_field="event", tag="entries"):
    entries: list[EntryReply]


class ListedReply(Struct, tag_field="event", tag="done"):
    truncated: bool


class FileReply(Struct, tag_field="event", tag="file"):
    entry: EntryReply


class Ready(Struct, tag_field="event", tag="ready"):
    pass


class Done(Struct, tag_field="event", tag="done"):
    pass


class WrittenReply(Struct, tag_field="event", tag="done"):
    size: Count
    created: bool


class UnpackedReply(Struct, tag_field="event", tag="done"):
    entries: Count


_encoder = msgspec.msgpack.Encoder()
_string = Decoder(str)
_binary = Decoder(bytes)
_NIL: Final = b"\xc0"


class Answer(Generic[T]):
    """What may answer an operation: records of these kinds, or an error."""

    def __init__(self, *kinds: type[T]) -> None:
        self._decoder = Decoder[Any](Union[(*kinds, ErrorReply)])

    def read(self, payload: bytes) -> T:
        """Raises `AgentError` where the agent says no, `AgentProtocolError` for whatever is unexpected."""
        try:
            reply = self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise AgentProtocolError(f"unexpected reply: {str(error)[:200]}") from None
        # What comes out the same again has nothing in it that the records do not know. Anything else is rare (a later
        # agent, or no agent of ours) and is looked at closely.
        if _encoder.encode(reply) != payload:
            check_control(payload)
        if isinstance(reply, ErrorReply):
            raise AgentError(reply.code, reply.errno, _printable(reply.message))
        return cast(T, reply)


HELLO: Final = Answer(Hello)
STARTED: Final = Answer(Started)
ATTACHED: Final = Answer(Attached)
EXIT: Final = Answer(ExitReply)
END: Final = Answer[ExitReply | UpToDate](ExitReply, UpToDate)
PROCESSES: Final = Answer[ProcessesReply | Done](ProcessesReply, Done)
TAKEN: Final = Answer(Taken)
SIGNALLED: Final = Answer(Signalled)
STAT: Final = Answer(StatReply)
LISTING: Final = Answer[EntriesReply | ListedReply](EntriesReply, ListedReply)
FILE: Final = Answer(FileReply)
READY: Final = Answer(Ready)
DONE: Final = Answer(Done)
WRITTEN: Final = Answer(WrittenReply)
UNPACKED: Final = Answer(UnpackedReply)


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


def read_entry(reply: EntryReply) -> Entry:
    return Entry(
        name=read_text(reply.name),
        path=read_text(reply.path),
        kind=reply.kind,
        size=reply.size,
        mode=reply.mode,
        uid=reply.uid,
        gid=reply.gid,
        user=read_text_or_none(reply.user),
        group=read_text_or_none(reply.group),
        modified_ns=reply.modified_ns,
        target=read_text_or_none(reply.target),
    )


def read_text(raw: Raw) -> bytes:
    """A name or a path: str, or bin where it is not UTF-8."""
    try:
        return _string.decode(raw).encode()
    except UnicodeDecodeError:
        raise AgentProtocolError("str is not UTF-8") from None
    except msgspec.MsgspecError:
        pass  # not a str, so it must be bin
    try:
        return _binary.decode(raw)
    except msgspec.MsgspecError:
        raise AgentProtocolError("a name that is neither str nor bin") from None


def read_text_or_none(raw: Raw) -> bytes | None:
    return None if bytes(raw) == _NIL else read_text(raw)


def _printable(message: str) -> str:
    """Text from a sandbox ends in logs and terminals: no control characters, and not much of it."""
    clipped = message[:MAX_MESSAGE_CHARACTERS]
    return "".join(letter if letter.isprintable() else "�" for letter in clipped)
