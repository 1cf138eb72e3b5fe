# SPDX-License-Identifier: Apache-2.0
"""Finds the server name in the first message of TLS, however it is cut into records. What it cannot read it refuses.

A server could read a doubtful message another way than we do, so there is no doubt to anybody's benefit: lengths must
fit exactly, nothing may occur twice, and what hides the name (encrypted ClientHello) is refused by its presence.
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll_server.network.names import InvalidName, parse_name
from atoll_server.network.outcomes import INCOMPLETE, Incomplete, Refused

MAX_HELLO = 16 * 1024
"""The longest ClientHello that is read. With post-quantum keys and a session ticket they are about 2 KiB."""
MAX_RECORDS = 64

HANDSHAKE_RECORD = 22

_CLIENT_HELLO = 1
_RECORD_HEADER = 5
_MESSAGE_HEADER = 4
_MAX_RECORD = 16 * 1024
_SERVER_NAME = 0
_HOST_NAME = 0
_HIDING = {
    0xFE0D: "encrypted ClientHello",
    0xFFCE: "encrypted server name",
    # Where an old TLS 1.3 draft kept it.
    0xFD00: "outer extensions of an encrypted ClientHello",
}


@dataclass(frozen=True)
class Hello:
    """A whole ClientHello; `name` is None where it names no server."""

    name: str | None


class _Malformed(Exception):
    """The text says what is wrong."""


def read_client_hello(data: bytes | bytearray) -> Hello | Incomplete | Refused:
    """The name in the ClientHello that `data` begins with. What follows the message is not looked at."""
    try:
        message = _collect_message(memoryview(data))
        return INCOMPLETE if message is None else Hello(_read_name(message))
    except _Malformed as error:
        return Refused(f"this TLS ClientHello cannot be read: {error}")


class _Cursor:
    """Takes pieces off the front of bytes, or says what was missing."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int, what: str) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise _Malformed(f"{what} is cut short")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def number(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what))

    def vector(self, size: int, what: str) -> bytes:
        """What follows its own length, which has `size` bytes."""
        return self.take(self.number(size, what), what)

    def is_at_end(self) -> bool:
        return self._at == len(self._data)


def _collect_message(data: memoryview) -> bytes | None:
    """The ClientHello's body out of its records; None while it is incomplete."""
    message = bytearray()
    at = 0
    for _ in range(MAX_RECORDS):
        length = _record_length(data[at : at + _RECORD_HEADER])
        if length is None:
            return None
        start = at + _RECORD_HEADER
        message += data[start : start + length]
        wanted = _message_length(message)
        if wanted is not None and len(message) >= _MESSAGE_HEADER + wanted:
            return bytes(message[_MESSAGE_HEADER : _MESSAGE_HEADER + wanted])
        if len(data) < start + length:
            return None
        at = start + length
    raise _Malformed(f"it is in more than {MAX_RECORDS} records")


def _record_length(header: memoryview) -> int | None:
    """How long the record is that begins so; None while its header is incomplete. Bytes are judged as they come."""
    if header and header[0] != HANDSHAKE_RECORD:
        raise _Malformed("a record of another kind is in it")
    if len(header) > 1 and header[1] != 3:
        raise _Malformed("a record is of an unknown version")
    if len(header) < _RECORD_HEADER:
        return None
    length = int.from_bytes(header[3:5])
    if not 0 < length <= _MAX_RECORD:
        raise _Malformed(f"a record has a length of {length} bytes")
    return length


def _message_length(message: bytearray) -> int | None:
    if message and message[0] != _CLIENT_HELLO:
        raise _Malformed("the first message is another one")
    if len(message) < _MESSAGE_HEADER:
        return None
    length = int.from_bytes(message[1:4])
    if length > MAX_HELLO:
        raise _Malformed(f"it has {length} bytes, and at most {MAX_HELLO} are read")
    return length


def _read_name(message: bytes) -> str | None:
    cursor = _Cursor(message)
    if cursor.number(1, "the version") != 3:
        raise _Malformed("its version is unknown")
    cursor.take(1 + 32, "the random value")
    if len(cursor.vector(1, "the session id")) > 32:
        raise _Malformed("the session id is too long")
    suites = cursor.vector(2, "the list of cipher suites")
    if not suites or len(suites) % 2:
        raise _Malformed("the list of cipher suites has a wrong length")
    if not cursor.vector(1, "the list of compressions"):
        raise _Malformed("the list of compressions is empty")
    if cursor.is_at_end():
        return None
    extensions = _read_extensions(cursor.vector(2, "the list of extensions"))
    if not cursor.is_at_end():
        raise _Malformed("something follows the extensions")
    return _read_server_name(extensions.get(_SERVER_NAME))


def _read_extensions(data: bytes) -> dict[int, bytes]:
    cursor = _Cursor(data)
    extensions: dict[int, bytes] = {}
    while not cursor.is_at_end():
        kind = cursor.number(2, "an extension")
        if kind in extensions:
            raise _Malformed(f"extension {kind} occurs twice")
        if kind in _HIDING:
            raise _Malformed(
                f"it has an {_HIDING[kind]}, which hides the server's name; turn that off"
            )
        extensions[kind] = cursor.vector(2, "an extension")
    return extensions


def _read_server_name(extension: bytes | None) -> str | None:
    if extension is None:
        return None
    cursor = _Cursor(extension)
    names = _Cursor(cursor.vector(2, "the server name"))
    if names.number(1, "the server name") != _HOST_NAME:
        raise _Malformed("the server name is of an unknown kind")
    written = names.vector(2, "the server name")
    if not (names.is_at_end() and cursor.is_at_end()):
        raise _Malformed("the server name is not the only one")
    try:
        return parse_name(written.decode("ascii"))
    except (InvalidName, UnicodeDecodeError):
        raise _Malformed(
            f"the server name {ascii(bytes(written[:80]))} is not a host name"
        ) from None
