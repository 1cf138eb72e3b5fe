# SPDX-License-Identifier: Apache-2.0
"""What the server writes into a process's note, and how a list of processes is chosen. Pure.

The note is all that the server knows of a process besides the agent's own record: it has no table of them. Root in the
sandbox may have written it, so whatever comes back is read with doubt.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from atoll_server.agent.messages import MAX_NOTE_BYTES
from atoll_server.engine.ids import process_id, process_number
from atoll_server.engine.model import (
    Process,
    ProcessFilter,
    ProcessPage,
    ProcessRecord,
)

COMMAND_BYTES: Final = 8 << 10
CWD_BYTES: Final = 5 << 10
USER_BYTES: Final = 256
WORDS: Final = 512
_MARK: Final = "…"
_WORD_OVERHEAD: Final = 3


@dataclass(frozen=True)
class Note:
    """What a client said when it started a process."""

    command: str | tuple[str, ...]
    cwd: str
    user: str | None


class _Packed(msgspec.Struct, array_like=True):
    """Texts are bytes, because paths and arguments need not be UTF-8."""

    command: bytes | Annotated[tuple[bytes, ...], Meta(max_length=WORDS)]
    cwd: bytes
    user: bytes | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Packed)


def pack_note(note: Note) -> bytes:
    """The note as the agent keeps it. A command too long for it keeps its beginning."""
    packed = _Packed(
        _clipped(note.command, COMMAND_BYTES)
        if isinstance(note.command, str)
        else _clipped_words(note.command),
        _clipped(note.cwd, CWD_BYTES),
        None if note.user is None else _clipped(note.user, USER_BYTES),
    )
    return _encoder.encode(packed)


def unpack_note(packed: bytes | None) -> Note:
    """The note as it was packed; an empty one where it is none of ours."""
    try:
        note = _decoder.decode(packed or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Note("", "", None)
    command = note.command
    return Note(
        _text(command) if isinstance(command, bytes) else tuple(map(_text, command)),
        _text(note.cwd),
        None if note.user is None else _text(note.user),
    )


def read_process(record: ProcessRecord) -> Process:
    """A process as a client knows it, from what its agent keeps."""
    note = unpack_note(record.note)
    return Process(process_id(record.number), record, note.command, note.cwd, note.user)


def choose_page(records: Iterable[ProcessRecord], wanted: ProcessFilter) -> ProcessPage:
    """The newest of those that match, after the cursor."""
    before = None if wanted.cursor is None else process_number(wanted.cursor)
    newest_first = sorted(records, key=lambda record: record.number, reverse=True)
    found: list[Process] = []
    for record in newest_first:
        if (before is None or record.number < before) and _matches(record, wanted):
            if len(found) == wanted.limit:
                return ProcessPage(tuple(found), found[-1].id)
            found.append(read_process(record))
    return ProcessPage(tuple(found), None)


def _matches(record: ProcessRecord, wanted: ProcessFilter) -> bool:
    if wanted.tag is not None and record.tag != wanted.tag:
        return False
    if wanted.pid is not None and record.pid != wanted.pid:
        return False
    return not wanted.statuses or record.status in wanted.statuses


def _clipped_words(words: tuple[str, ...]) -> tuple[bytes, ...]:
    kept: list[bytes] = []
    left = COMMAND_BYTES
    for word in words:
        if left <= _WORD_OVERHEAD or len(kept) == WORDS - 1:
            return (*kept, _MARK.encode())
        kept.append(_clipped(word, left))
        left -= len(kept[-1]) + _WORD_OVERHEAD
    return tuple(kept)


def _clipped(text: str, limit: int) -> bytes:
    raw = _bytes(text[: limit + 1])
    if len(raw) <= limit and len(text) <= limit:
        return raw
    kept = raw[:limit]
    return kept.decode("utf-8", "ignore").encode() + _MARK.encode()


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except (
        UnicodeEncodeError
    ):  # a surrogate that stands for no byte: the request itself will be refused
        return text.encode("utf-8", "replace")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


assert COMMAND_BYTES + CWD_BYTES + USER_BYTES + WORDS * _WORD_OVERHEAD < MAX_NOTE_BYTES
