# SPDX-License-Identifier: Apache-2.0
"""A process's output as events, over as many connections as it takes. No I/O."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import _wire
from ._events import FrameDecoder, FrameKind, Piece, parse_error_event
from .errors import ProtocolError
from .models import ProcessInfo


@dataclass(frozen=True, slots=True)
class Stdout:
    """A piece of standard output. `offset` is where it begins in its stream, `position` where it ends in the output.

    `text` is the piece as text: a character that comes in two pieces is in the second one's, and bytes that are not
    UTF-8 stand as U+FFFD.
    """

    data: bytes
    text: str
    offset: int
    position: int


@dataclass(frozen=True, slots=True)
class Stderr:
    """A piece of standard error, as `Stdout` is one of standard output."""

    data: bytes
    text: str
    offset: int
    position: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """Output that is not kept any more: so many bytes, of both streams, before `position`."""

    size_bytes: int
    position: int


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of the process. `info` is all that is known about it."""

    info: ProcessInfo

    @property
    def exit_code(self) -> int | None:
        """Its status; None when a timeout ended it."""
        return self.info.exit_code

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it."""
        return self.info.signal

    @property
    def position(self) -> int:
        """The end of its output."""
        return self.info.position


ProcessEvent = Stdout | Stderr | Dropped | Exit

_EVENTS: dict[FrameKind, type[Stdout] | type[Stderr]] = {
    FrameKind.STDOUT: Stdout,
    FrameKind.STDERR: Stderr,
}


class OutputReader:
    """Makes events of the framed answers to one or more requests, each byte of output in one event.

    A connection may end anywhere, in the middle of a frame too. The next begins at `position`; should what it brings
    begin earlier, what was told already is left out, by the offsets in the frames.
    """

    def __init__(self, since: int) -> None:
        self.position = since
        """Where the next connection is to begin: a position, which is the sum of both streams' offsets."""
        self.end: ProcessInfo | None = None
        self.has_news = False
        self._attached = False
        self._decoder = FrameDecoder()
        self._told: dict[FrameKind, int] | None = None
        make = codecs.getincrementaldecoder("utf-8")
        self._texts = {kind: make("replace") for kind in _EVENTS}

    @property
    def is_over(self) -> bool:
        return self.end is not None

    def reconnect(self) -> None:
        """Forgets the connection that ended."""
        self._decoder = FrameDecoder()
        self.has_news = self._attached = False

    def feed(self, chunk: bytes) -> Iterator[ProcessEvent]:
        """The events that are known once `chunk` has come. Raises what the server says went wrong."""
        self.has_news |= self._attached
        for piece in self._decoder.feed(chunk):
            self.has_news |= self._attached
            if piece.kind is FrameKind.CONTROL:
                yield from self._take_control(piece.data)
            else:
                yield from self._take_output(piece)

    def _take_control(self, data: bytes) -> list[ProcessEvent]:
        said = _wire.parse(data)
        event = said.get("event") if isinstance(said, dict) else None
        if event == "attached":
            return self._attach(said)
        if event == "exit":
            self.end = _wire.from_plain(ProcessInfo, said)
            # Where one does not follow, the last word on a process that runs has this name too.
            return [Exit(self.end)] if self.end.ended else []
        if event == "error":
            raise parse_error_event(said)
        raise ProtocolError(f"a control frame with the event {event!r:.80}")

    def _attach(self, said: dict[str, Any]) -> list[ProcessEvent]:
        begins = {
            FrameKind.STDOUT: _count(said, "stdout"),
            FrameKind.STDERR: _count(said, "stderr"),
        }
        self._attached = True
        if self._told is None:
            self._told = begins
            return self._move(_count(said, "dropped"), sum(begins.values()))
        gap = sum(max(0, begins[kind] - told) for kind, told in self._told.items())
        self._told = {kind: max(begins[kind], told) for kind, told in self._told.items()}
        return self._move(gap, self.position + gap)

    def _take_output(self, piece: Piece) -> list[ProcessEvent]:
        if self._told is None:
            raise ProtocolError("output before the stream said where it begins")
        told = self._told[piece.kind]
        end = piece.offset + len(piece.data)
        if end <= told:
            return []
        events = self._move(
            max(0, piece.offset - told), self.position + max(0, piece.offset - told)
        )
        offset = max(piece.offset, told)
        data = piece.data[offset - piece.offset :]
        self._told[piece.kind] = end
        self.position += len(data)
        text = self._texts[piece.kind].decode(data)
        return [*events, _EVENTS[piece.kind](data, text, offset, self.position)]

    def _move(self, dropped: int, position: int) -> list[ProcessEvent]:
        self.position = position
        if not dropped:
            return []
        for text in self._texts.values():
            text.reset()  # half a character is of no use without its other half
        return [Dropped(dropped, position)]


def _count(said: dict[str, Any], name: str) -> int:
    value = said.get(name)
    if type(value) is not int or value < 0:
        raise ProtocolError(f"a stream that begins with {name} {value!r:.80}")
    return value
