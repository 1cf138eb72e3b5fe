# SPDX-License-Identifier: Apache-2.0
"""Finds placeholders in what a sandbox says, puts values in their place, and takes values out of what it is told. Pure.

Streams are looked at with no more kept of them than one placeholder, or one value, is long.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import Final

from atoll_server.network.secrets import Secret

Fields = tuple[tuple[bytes, bytes], ...]

MAX_FILLED_HEAD: Final = 128 * 1024
MIN_MASKED: Final = 8
"""Values shorter than this are not taken out of answers: they would be found everywhere by chance."""

MAX_LOOKS: Final = 64
"""How often what is no value may look like the beginning of one before it is held back like one."""

_Find = Callable[[bytes, bytes, int], int]
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

    What could be the beginning of a value is held back until more has come. Whoever wrote the values may have written
    the stream for them, so as to be looked at for long: no two of them make that longer than its length does.
    """

    def __init__(self, secrets: Iterable[Secret]) -> None:
        pairs = [(secret.value.encode(), secret.placeholder.encode()) for secret in secrets]
        # Longer ones first: one value may stand within another.
        masked = sorted(
            (it for it in pairs if len(it[0]) >= MIN_MASKED), key=lambda it: -len(it[0])
        )
        self._masks = {value: name[: len(value)].ljust(len(value), b"*") for value, name in masked}
        beginnings = (re.escape(value[:MIN_MASKED]) for value in self._masks)
        self._found = re.compile(b"|".join(beginnings))
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """As much as can be told."""
        return self._mask(self._held + piece, is_last=False) if self._masks else piece

    def finish(self) -> bytes:
        """The rest, once no more comes."""
        return self._mask(self._held, is_last=True)

    def _mask(self, seen: bytes, *, is_last: bool) -> bytes:
        told, at = bytearray(), 0
        # One look for all is much less than one for each, and is mostly enough.
        may_hold = self._masks if self._found.search(seen) else ()
        whole = _Places(seen, may_hold, _find_whole)
        begun = _Places(seen, self._masks, _find_begun)
        while True:
            place, value = whole.first(at)
            held = len(seen) if is_last else begun.first(at)[0]
            if place >= held:
                self._held = seen[held:]
                return bytes(told + seen[at:held])
            told += seen[at:place] + self._masks[value]
            at = place + len(value)


class _Places:
    """Where in `seen` each of these values is found next. Each part of it is looked at once for each."""

    def __init__(self, seen: bytes, values: Iterable[bytes], find: _Find) -> None:
        self._seen = seen
        self._find = find
        self._places = dict.fromkeys(values, -1)

    def first(self, at: int) -> tuple[int, bytes]:
        """The first place from `at` on, and whose it is; the end of all where there is none."""
        first, whose = len(self._seen), b""
        for value, place in self._places.items():
            if place < at:
                self._places[value] = place = self._find(value, self._seen, at)
            if place < first:
                first, whose = place, value
        return first, whose


def _find_whole(value: bytes, seen: bytes, at: int) -> int:
    place = seen.find(value, at)
    return len(seen) if place < 0 else place


def _find_begun(value: bytes, seen: bytes, at: int) -> int:
    """Where something begins that goes on to the end, and may turn out to be a value."""
    # A short look shows of almost everything that it is none. What looks like one again and again is taken for one.
    place = seen.find(value[:MIN_MASKED], max(at, len(seen) - len(value) + 1))
    for _ in range(MAX_LOOKS):
        if place < 0 or value.startswith(seen[place:]):
            break
        place = seen.find(value[:MIN_MASKED], place + 1)
    if place >= 0:
        return place
    short = range(max(at, len(seen) - MIN_MASKED + 1), len(seen))
    return next((start for start in short if value.startswith(seen[start:])), len(seen))


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
