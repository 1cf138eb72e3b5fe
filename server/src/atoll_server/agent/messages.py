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
from atoll_server.engine.model import Entry, Exit, FileKind

GENERATION: Final = 1
MAX_MESSAGE_CHARACTERS: Final = 300

Fields = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class StartRequest:
    """What to run: `program` is text for a shell or an argument vector. Durations are seconds."""

    program: str | Sequence[str]
    cwd: str
    make_cwd: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stdin: bool = False
    timeout: float | None = None
    grace: float = 5.0

    def fields(self) -> Fields:
        is_text = isinstance(self.program, str)
        return {
            "op": "start",
            "generation": GENERATION,
            "shell" if is_text else "argv": _program(self.program),
            "cwd": wire_text(self.cwd),
            "make_cwd": self.make_cwd,
            "env": {name: wire_text(value) for name, value in self.env.items()},
            "user": None if self.user is None else wire_text(self.user),
            "stdin": self.stdin,
            "timeout_ms": None if self.timeout is None else max(1, round(self.timeout * 1000)),
            "grace_ms": round(self.grace * 1000),
        }


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


def _program(program: str | Sequence[str]) -> str | bytes | list[str | bytes]:
    if isinstance(program, str):
        return wire_text(program)
    return [wire_text(word) for word in program]


Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Id = Annotated[int, Meta(ge=0, le=2**32 - 1)]
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
    modified_ns: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
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
EXIT: Final = Answer(ExitReply)
SIGNALLED: Final = Answer(Signalled)
STAT: Final = Answer(StatReply)
LISTING: Final = Answer[EntriesReply | ListedReply](EntriesReply, ListedReply)
FILE: Final = Answer(FileReply)
READY: Final = Answer(Ready)
DONE: Final = Answer(Done)
WRITTEN: Final = Answer(WrittenReply)
UNPACKED: Final = Answer(UnpackedReply)


def read_exit(payload: bytes) -> Exit:
    reply = EXIT.read(payload)
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


def read_entry(reply: EntryReply) -> Entry:
    return Entry(
        name=_text(reply.name),
        path=_text(reply.path),
        kind=reply.kind,
        size=reply.size,
        mode=reply.mode,
        uid=reply.uid,
        gid=reply.gid,
        user=_text_or_none(reply.user),
        group=_text_or_none(reply.group),
        modified_ns=reply.modified_ns,
        target=_text_or_none(reply.target),
    )


def _text(raw: Raw) -> bytes:
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


def _text_or_none(raw: Raw) -> bytes | None:
    return None if bytes(raw) == _NIL else _text(raw)


def _printable(message: str) -> str:
    """Text from a sandbox ends in logs and terminals: no control characters, and not much of it."""
    clipped = message[:MAX_MESSAGE_CHARACTERS]
    return "".join(letter if letter.isprintable() else "�" for letter in clipped)
