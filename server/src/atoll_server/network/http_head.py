# SPDX-License-Identifier: Apache-2.0
"""Reads the head of an HTTP/1 request so strictly that a server cannot read it another way.

Its end must be certain: otherwise part of it would be another request, to a host that nobody has judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from atoll_server.network.addresses import Address, parse_address
from atoll_server.network.names import InvalidName, parse_name
from atoll_server.network.outcomes import INCOMPLETE, Incomplete, Refused

MAX_HEAD = 16 * 1024
MAX_FIELDS = 100
CLOSE = b"close"
KEEP = b"keep-alive"
UPGRADE = b"upgrade"
WEBSOCKET = b"websocket"
METHOD_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")

_REQUEST_LINE = re.compile(rb"([A-Z][A-Z-]{0,19}) ([\x21-\x7e]+) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\x20-\x7e\x80-\xff\t]*?)[ \t]*")
_ABSOLUTE = re.compile(rb"http://([^/?#]+)(?:[/?].*)?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
# Of these alone it is certain that servers read the body; others have taken it for the next request.
_BODIED = (b"POST", b"PUT", b"PATCH")
# Ours to decide: what becomes of the connection after the answer.
_DROPPED = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings")
)

Field = tuple[bytes, bytes]


@dataclass(frozen=True)
class Head:
    """One request's head.

    `host` is a name or an address, `port` what stands behind it. `body` is its length in bytes, None where it comes in
    chunks. `size` is how many bytes of what was read it took; `first` and `fields` are the head as a server gets it.
    `may_keep`: another request may follow on its connection, and nobody could take its body for that. `websocket_key`
    is that of the WebSocket that it asks for, if it does.
    """

    method: str
    host: str | Address
    port: int | None
    body: int | None
    size: int
    first: bytes = field(repr=False)
    fields: tuple[Field, ...] = field(repr=False)
    may_keep: bool
    websocket_key: bytes | None = field(repr=False)

    @property
    def forwarded(self) -> bytes:
        """What a server gets of it, becoming no other protocol."""
        return render_head(self.first, self.fields, KEEP if self.may_keep else CLOSE)


class _Malformed(Exception):
    """The text says what is wrong."""


def read_head(data: bytes | bytearray) -> Head | Incomplete | Refused:
    """The head that `data` begins with."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD)
    try:
        if end < 0:
            return _judge_beginning(data)
        return _read_whole(bytes(data[:end]), end + 4)
    except _Malformed as error:
        return Refused(f"this HTTP request is refused: {error}")


def render_head(first: bytes, fields: Iterable[Field], connection: bytes) -> bytes:
    """A head of these fields, and what it says of its connection."""
    lines = [b"%s: %s" % field for field in fields]
    return b"\r\n".join([first, *lines, b"Connection: " + connection, b"", b""])


def read_tokens(fields: Iterable[Field], name: bytes) -> frozenset[bytes]:
    """What a field that may be written several times, as lists, says in all: in lower case."""
    said = (value.lower() for field, value in fields if field.lower() == name)
    return frozenset(token.strip() for value in said for token in value.split(b","))


def _judge_beginning(data: bytes | bytearray) -> Incomplete:
    if len(data) >= MAX_HEAD:
        raise _Malformed(f"its head has more than {MAX_HEAD} bytes")
    if b"\n" in data.replace(b"\r\n", b""):
        raise _Malformed("a line ends without a carriage return")
    return INCOMPLETE


def _read_whole(head: bytes, size: int) -> Head:
    first, *lines = head.split(b"\r\n")
    if len(lines) > MAX_FIELDS:
        raise _Malformed(f"it has more than {MAX_FIELDS} header fields")
    request = _REQUEST_LINE.fullmatch(first)
    if request is None:
        raise _Malformed("its first line is not that of HTTP/1.0 or HTTP/1.1")
    method, target, minor = request.groups()
    fields = [_read_field(line) for line in lines]
    written = _single(fields, b"host")
    if written is None:
        raise _Malformed("it names no host")
    _check_target(method, target, written)
    host, port = _read_host(written)
    body = _read_body(fields, may_be_chunked=minor == b"1")
    kept = tuple(field for field in fields if field[0].lower() not in _DROPPED)
    wishes = frozenset() if minor == b"0" else read_tokens(fields, b"connection")
    may_keep = minor == b"1" and CLOSE not in wishes
    may_keep = may_keep and (body == 0 or (body is not None and method in _BODIED))
    key = _read_key(fields) if method == b"GET" and body == 0 and UPGRADE in wishes else None
    return Head(method.decode(), host, port, body, size, first, kept, may_keep, key)


def _read_key(fields: list[Field]) -> bytes | None:
    """The key of a WebSocket that is asked for, and nothing beside it."""
    protocols = [value.lower() for name, value in fields if name.lower() == UPGRADE]
    keys = [value for name, value in fields if name.lower() == b"sec-websocket-key"]
    return keys[0] if protocols == [WEBSOCKET] and len(keys) == 1 else None


def _read_field(line: bytes) -> Field:
    field = _FIELD.fullmatch(line)
    if field is None:
        raise _Malformed(f"a header field is malformed, or folded: {ascii(line[:60])}")
    return field[1], field[2]


def _check_target(method: bytes, target: bytes, host: bytes) -> None:
    if method == b"CONNECT":
        raise _Malformed("CONNECT is for proxies; connect to the host itself")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise _Malformed("its target is neither a path nor an http URL")
    if absolute[1].lower() != host.lower():
        raise _Malformed("its target and its Host name different hosts")


def _read_host(written: bytes) -> tuple[str | Address, int | None]:
    text = written.decode("latin-1")
    bare, colon, port = text.partition(":")
    if text.startswith("["):
        bare, colon, port = text[1:].partition("]")[0], *text.partition("]")[2].partition(":")[1:]
        if text.partition("]")[2].partition(":")[0]:
            raise _Malformed("its Host is not a host")
    if colon and not (_PORT.fullmatch(port) and 0 < int(port) < 65_536):
        raise _Malformed("the port of its Host is not a port")
    return _read_host_itself(bare, is_bracketed=text.startswith("[")), int(port) if colon else None


def _read_host_itself(bare: str, *, is_bracketed: bool) -> str | Address:
    try:
        address = parse_address(bare)
    except ValueError:
        address = None
    if address is not None and (address.version == 6) == is_bracketed:
        return address
    try:
        if is_bracketed:
            raise InvalidName
        return parse_name(bare)
    except InvalidName:
        raise _Malformed(f"its Host {ascii(bare[:80])} is not a host") from None


def _read_body(fields: list[Field], *, may_be_chunked: bool) -> int | None:
    length = _single(fields, b"content-length")
    coding = _single(fields, b"transfer-encoding")
    if coding is None:
        if length is not None and not _LENGTH.fullmatch(length):
            raise _Malformed("its Content-Length is not a number")
        return 0 if length is None else int(length)
    if length is not None:
        raise _Malformed("it has both a Content-Length and a Transfer-Encoding")
    if coding.lower() != b"chunked" or not may_be_chunked:
        raise _Malformed("its Transfer-Encoding is not 'chunked', or not for HTTP/1.0")
    return None


def _single(fields: list[Field], name: bytes) -> bytes | None:
    values = [value for field, value in fields if field.lower() == name]
    if len(values) > 1:
        raise _Malformed(f"it has more than one {name.decode().title()}")
    return values[0] if values else None
