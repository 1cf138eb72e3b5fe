# SPDX-License-Identifier: Apache-2.0
"""Finds placeholders in what a sandbox says, puts values in their place, and takes values out of what it is told. Pure.

Streams are looked at with no more kept of them than one placeholder, or one value, is long.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Final

from atoll_server.network.secrets import Secret

Fields = tuple[tuple[bytes, bytes], ...]

MAX_FILLED_HEAD: Final = 128 * 1024
MIN_MASKED: Final = 8
"""Values shorter than this are not taken out of answers: they would be found everywhere by chance."""

_BASIC = re.compile(rb"(basic) +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)
_CREDENTIALS = (b"authorization", b"proxy-authorization")


class Misplaced(Exception):
    """A placeholder where it must not be. The text says of which secret, and why."""


def check_head(first: bytes, fields: Fields, secrets: Iterable[Secret]) -> None:
    """Raise `Misplaced` if the placeholder of one of these stands anywhere in a request's head."""
    for secret in secrets:
        for name, value in ((first, b""), *fields):
            if _stands_in(secret, name) or _stands_in(secret, _readable(name, value)):
                hosts = ", ".join(secret.hosts[:4])
                raise Misplaced(f"{secret.name} is for {hosts} over TLS alone, and stays here")


def fill(first: bytes, fields: Fields, secrets: Iterable[Secret]) -> Fields:
    """The header fields with the values of these secrets in place. Raises `Misplaced`."""
    filled = fields
    for secret in secrets:
        if any(_stands_in(secret, text) for text in (first, *(name for name, _ in fields))):
            raise Misplaced(f"{secret.name} is put into the values of headers, not into a URL")
        filled = tuple((name, _fill_value(secret, name, value)) for name, value in filled)
    size = sum(len(name) + len(value) for name, value in filled)
    if size > MAX_FILLED_HEAD:
        raise Misplaced(f"with its secrets the head has more than {MAX_FILLED_HEAD} bytes")
    return filled


def hide(fields: Fields, secrets: Iterable[Secret]) -> Fields:
    """A response's header fields, with placeholders where values stand."""
    for secret in sorted(secrets, key=lambda it: -len(it.value)):
        if len(secret.value.encode()) < MIN_MASKED:
            continue
        value, placeholder = secret.value.encode(), secret.placeholder.encode()
        fields = tuple(
            (name.replace(value, placeholder), text.replace(value, placeholder))
            for name, text in fields
        )
    return fields


class Watch:
    """Looks for placeholders in a stream, wherever it is cut."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._secrets = {secret.placeholder.encode(): secret for secret in secrets}
        self._kept = max(map(len, self._secrets), default=1) - 1
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        """Look at what comes next. Raises `Misplaced` as soon as a placeholder is whole."""
        seen = self._tail + piece
        for placeholder, secret in self._secrets.items():
            if placeholder in seen:
                raise Misplaced(f"the body has the placeholder of {secret.name}")
        self._tail = seen[-self._kept :] if self._kept else b""


class Mask:
    """Puts as many bytes of the placeholder, and of `*`, where values stand in a stream: it stays as long as it was.

    What could be the beginning of a value is held back until more has come.
    """

    def __init__(self, secrets: Iterable[Secret]) -> None:
        pairs = [(secret.value.encode(), secret.placeholder.encode()) for secret in secrets]
        # Longer ones first: one value may stand within another.
        masked = sorted(
            (it for it in pairs if len(it[0]) >= MIN_MASKED), key=lambda it: -len(it[0])
        )
        self._masks = {value: name[: len(value)].ljust(len(value), b"*") for value, name in masked}
        self._found = re.compile(b"|".join(re.escape(value) for value in self._masks))
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """As much as can be told."""
        if not self._masks:
            return piece
        seen, told, at = self._held + piece, bytearray(), 0
        while True:
            match = self._found.search(seen, at)
            held = self._first_beginning(seen, at)
            if match is None or held <= match.start():
                self._held = seen[held:]
                return bytes(told + seen[at:held])
            told += seen[at : match.start()] + self._masks[match[0]]
            at = match.end()

    def finish(self) -> bytes:
        """The rest, once no more comes."""
        rest, self._held = self._held, b""
        return self._found.sub(lambda match: self._masks[match[0]], rest) if rest else rest

    def _first_beginning(self, seen: bytes, at: int) -> int:
        """Where, from `at` on, something begins that may turn out to be a value; the end if nothing does."""
        first = len(seen)
        for value in self._masks:
            place = seen.find(value[:1], max(at, len(seen) - len(value) + 1), first)
            while place >= 0:
                # The short look first: values can be long, and almost all of it is none.
                if value.startswith(seen[place : place + 8]) and value.startswith(seen[place:]):
                    first = place
                    break
                place = seen.find(value[:1], place + 1, first)
        return first


def _fill_value(secret: Secret, name: bytes, value: bytes) -> bytes:
    placeholder = secret.placeholder.encode()
    if not _stands_in(secret, _readable(name, value)):
        return value
    if secret.header is not None and name.lower() != secret.header.lower().encode():
        raise Misplaced(f"{secret.name} is for the header {secret.header} alone")
    filled = value.replace(placeholder, secret.value.encode())
    basic = _BASIC.fullmatch(filled) if name.lower() in _CREDENTIALS else None
    decoded = None if basic is None else _decode(basic[2])
    if basic is None or decoded is None or placeholder not in decoded:
        return filled
    return basic[1] + b" " + base64.b64encode(decoded.replace(placeholder, secret.value.encode()))


def _stands_in(secret: Secret, text: bytes) -> bool:
    return secret.placeholder.encode() in text


def _readable(name: bytes, value: bytes) -> bytes:
    """A field's value, and behind it what it says in base64 where that is usual."""
    basic = _BASIC.fullmatch(value) if name.lower() in _CREDENTIALS else None
    return value if basic is None else value + b"\n" + (_decode(basic[2]) or b"")


def _decode(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
