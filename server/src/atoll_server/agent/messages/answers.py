# SPDX-License-Identifier: Apache-2.0
"""What may answer an operation: a record of its own, one that several share, or an error."""

from __future__ import annotations

from typing import Annotated, Any, Final, Generic, Literal, TypeVar, Union, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.msgpack import Decoder

from atoll_server.agent.errors import AgentError, AgentProtocolError
from atoll_server.agent.frames import check_control

MAX_MESSAGE_CHARACTERS: Final = 300

T = TypeVar("T")

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


class Ready(Struct, tag_field="event", tag="ready"):
    pass


class Done(Struct, tag_field="event", tag="done"):
    pass


_encoder = msgspec.msgpack.Encoder()


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


READY: Final = Answer(Ready)
DONE: Final = Answer(Done)


def _printable(message: str) -> str:
    """Text from a sandbox ends in logs and terminals: no control characters, and not much of it."""
    clipped = message[:MAX_MESSAGE_CHARACTERS]
    return "".join(letter if letter.isprintable() else "�" for letter in clipped)
