# SPDX-License-Identifier: Apache-2.0
"""Reads the head of a response, and its body without what frames it. What cannot be read for certain is refused."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from atoll_server.network.http_body import ChunkedBody
from atoll_server.network.http_head import (
    CLOSE,
    KEEP,
    UPGRADE,
    WEBSOCKET,
    Field,
    read_tokens,
    render_head,
)
from atoll_server.network.outcomes import INCOMPLETE, Incomplete

MAX_RESPONSE_HEAD: Final = 64 * 1024
SWITCHING: Final = 101

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\x20-\x7e\x80-\xff\t]*?)[ \t]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BODILESS = (204, 304)
# What a server of WebSockets adds to a client's key, to show that it has understood.
_WEBSOCKET_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# What is said about this connection, which is ours to say.
_DROPPED = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"trailer"),
        *(b"content-length", b"transfer-encoding", b"alt-svc"),
    )
)
UNTIL_END: Final = -1


class BadResponse(Exception):
    """It cannot be told what the response says. The text says why."""


@dataclass(frozen=True)
class ResponseHead:
    """One response's head. `length` of the body in bytes, None for chunks, `UNTIL_END` where only its end tells.

    `is_interim`: another response follows it. `is_switching`: what follows is the WebSocket that was asked for.
    `may_keep`: the connection may go on after it.
    """

    first: bytes
    fields: tuple[Field, ...]
    size: int
    length: int | None
    written_length: bytes | None
    is_interim: bool
    is_switching: bool = False
    may_keep: bool = False

    def render(self, fields: Iterable[Field], *, keep: bool = False) -> bytes:
        """The head with these fields instead, and what frames the body as it was framed."""
        if self.is_switching:
            return render_head(self.first, (*fields, (b"Upgrade", WEBSOCKET)), b"Upgrade")
        if self.is_interim:
            return b"\r\n".join([self.first, *(b"%s: %s" % it for it in fields), b"", b""])
        framing: tuple[Field, ...] = ()
        if self.written_length is not None:
            framing = ((b"Content-Length", self.written_length),)
        elif self.length is None:
            framing = ((b"Transfer-Encoding", b"chunked"),)
        return render_head(self.first, (*fields, *framing), KEEP if keep else CLOSE)


def read_response_head(
    data: bytes, method: str, websocket_key: bytes | None = None
) -> ResponseHead | Incomplete:
    """The head that `data` begins with, in answer to this method, or to a wish for a WebSocket of this key.

    Raises `BadResponse`.
    """
    end = data.find(b"\r\n\r\n", 0, MAX_RESPONSE_HEAD)
    if end < 0:
        if len(data) >= MAX_RESPONSE_HEAD:
            raise BadResponse(f"its head has more than {MAX_RESPONSE_HEAD} bytes")
        return INCOMPLETE
    first, *lines = data[:end].split(b"\r\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise BadResponse("its first line is not that of HTTP/1")
    code, fields = int(status[2]), [_read_field(line) for line in lines]
    kept = tuple(field for field in fields if field[0].lower() not in _DROPPED)
    if code == SWITCHING:
        _check_switch(fields, websocket_key)
        return ResponseHead(first, kept, end + 4, 0, None, is_interim=False, is_switching=True)
    length, written = _read_length(fields)
    has_body = not (method == "HEAD" or code < 200 or code in _BODILESS)
    length = length if has_body else 0
    may_keep = status[1] == b"1" and CLOSE not in read_tokens(fields, b"connection")
    may_keep = may_keep and length != UNTIL_END
    return ResponseHead(first, kept, end + 4, length, written, code < 200, may_keep=may_keep)


class ResponseBody:
    """Takes a body's frame off. `is_done` once it is whole; one that only its end ends never is.

    `is_overrun`: something came behind it.
    """

    def __init__(self, length: int | None) -> None:
        self._pieces: list[bytes] = []
        self._chunks = ChunkedBody(self._pieces.append) if length is None else None
        self._left = length or 0
        self.is_endless = length == UNTIL_END
        self.is_overrun = False

    @property
    def is_done(self) -> bool:
        if self._chunks is not None:
            return self._chunks.is_done
        return not self._left

    def take(self, data: bytes) -> bytes:
        """What of the body is in `data`. Raises `MalformedBody`."""
        if self.is_endless:
            return data
        if self._chunks is None:
            piece = data[: self._left]
            self._left -= len(piece)
            self.is_overrun |= len(piece) < len(data)
            return piece
        self.is_overrun |= len(self._chunks.take(data)) < len(data)
        piece = b"".join(self._pieces)
        self._pieces.clear()
        return piece


def chunk(piece: bytes) -> bytes:
    """A piece of a body as a chunk."""
    return b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b""


LAST_CHUNK: Final = b"0\r\n\r\n"


def _check_switch(fields: list[Field], key: bytes | None) -> None:
    """Whether it is to the WebSocket that was asked for, by one who knows what that is, with nothing added to it."""
    if key is None:
        raise BadResponse("it changes to another protocol, for which nobody has asked")
    digest = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_SALT, usedforsecurity=False).digest())
    protocols = [value.lower() for name, value in fields if name.lower() == UPGRADE]
    accepted = [value for name, value in fields if name.lower() == b"sec-websocket-accept"]
    is_asked_for = protocols == [WEBSOCKET] and UPGRADE in read_tokens(fields, b"connection")
    if not is_asked_for or accepted != [digest]:
        raise BadResponse("it changes to what is not the WebSocket that was asked for")
    if any(name.lower() == b"sec-websocket-extensions" for name, _ in fields):
        raise BadResponse("it uses an extension of WebSockets, for which nobody has asked")


def _read_field(line: bytes) -> Field:
    field = _FIELD.fullmatch(line)
    if field is None:
        raise BadResponse("a header field is malformed, or folded")
    return field[1], field[2]


def _read_length(fields: list[Field]) -> tuple[int | None, bytes | None]:
    """How the body ends, and the length as it was written."""
    lengths = {value for name, value in fields if name.lower() == b"content-length"}
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadResponse("where its body ends can be read in two ways")
        return None, None
    if not lengths:
        return UNTIL_END, None
    written = lengths.pop()
    if lengths or not _LENGTH.fullmatch(written):
        raise BadResponse("its Content-Length is not one number")
    return int(written), written
