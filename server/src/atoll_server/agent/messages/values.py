# SPDX-License-Identifier: Apache-2.0
"""What messages are made of: numbers within the protocol's ranges, and texts, which are str where they are UTF-8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw
from msgspec.msgpack import Decoder

from atoll_server.agent.errors import AgentError, AgentProtocolError

Fields = Mapping[str, Any]
"""A request, or what it holds beside its `op` and `generation`."""

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Id = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Instant = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Pid = Annotated[int, Meta(ge=1, le=2**31)]
ExitCode = Annotated[int, Meta(ge=0, le=255)]
SignalNumber = Annotated[int, Meta(ge=1, le=64)]

_string = Decoder(str)
_binary = Decoder(bytes)
_NIL: Final = b"\xc0"


def wire_text(text: str | bytes) -> str | bytes:
    """str where it is UTF-8, else bytes; surrogate escapes in a str stand for bytes.

    Raises `AgentError` where surrogates stand for no byte.
    """
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


def read_text(raw: Raw) -> bytes:
    """A name or a path: str, or bin where it is not UTF-8. Raises `AgentProtocolError` for anything else."""
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
    """The same where nil may stand."""
    return None if bytes(raw) == _NIL else read_text(raw)
