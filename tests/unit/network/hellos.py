# SPDX-License-Identifier: Apache-2.0
"""ClientHellos: real ones, made by Python's own TLS, and ones put together by hand."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterable


def real_hello(name: str | None) -> bytes:
    """The first flight of a TLS client that wants `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake ended without a server")


def add_extension(hello: bytes, kind: int, data: bytes) -> bytes:
    """The same with one more at the end of its extensions, in one record."""
    body = hello[9:]
    at = 35 + body[34]
    at += 2 + int.from_bytes(body[at : at + 2])
    at += 1 + body[at]
    extensions = body[at + 2 :] + struct.pack(">HH", kind, len(data)) + data
    body = body[:at] + struct.pack(">H", len(extensions)) + extensions
    return record(b"\x01" + len(body).to_bytes(3) + body)


def cut_into_records(hello: bytes, sizes: Iterable[int]) -> bytes:
    """The same message in records of these sizes, the rest in one more."""
    message, records = hello[5:], b""
    for size in sizes:
        piece, message = message[:size], message[size:]
        records += record(piece) if piece else b""
    return records + (record(message) if message else b"")


def record(piece: bytes, kind: int = 22) -> bytes:
    return struct.pack(">BHH", kind, 0x0301, len(piece)) + piece


def made_hello(*extensions: tuple[int, bytes], tail: bytes = b"") -> bytes:
    """A small sound ClientHello with these extensions."""
    listed = b"".join(struct.pack(">HH", kind, len(data)) + data for kind, data in extensions)
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    body += struct.pack(">H", len(listed)) + listed + tail
    return record(b"\x01" + len(body).to_bytes(3) + body)


def server_name(*names: bytes, kind: int = 0) -> tuple[int, bytes]:
    """The extension that names a server."""
    listed = b"".join(struct.pack(">BH", kind, len(name)) + name for name in names)
    return 0, struct.pack(">H", len(listed)) + listed
