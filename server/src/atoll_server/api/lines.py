# SPDX-License-Identifier: Apache-2.0
"""Cutting a stream of bytes into lines of text, as it comes. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PIECE_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its line feed, or a piece of one. `offset` is where its first byte stands in the stream."""

    text: str
    partial: bool
    offset: int


class LineSplitter:
    """Cuts one stream into lines; one that is longer than `limit` bytes into pieces, never inside a character.

    Bytes that are not UTF-8 stand as U+FFFD. The pieces of a line are the line: none is lost, none comes twice.
    """

    def __init__(self, limit: int = PIECE_LIMIT) -> None:
        assert limit >= 4, "a piece holds at least one character"
        self._limit = limit
        self._rest = b""
        self._offset = 0

    def feed(self, data: bytes) -> Iterator[Line]:
        """The lines and full pieces that are complete with `data`. Take them all before the next call."""
        held = self._rest + data if self._rest else data
        start = 0
        while True:
            end = held.find(b"\n", start)
            stop = len(held) if end < 0 else end
            while stop - start > self._limit:
                cut = _cut(held, start, start + self._limit)
                yield self._line(held[start:cut], partial=True)
                start = cut
            if end < 0:
                self._rest = held[start:]
                return
            yield self._line(held[start:end], partial=False)
            self._offset += 1
            start = end + 1

    def skip_to(self, offset: int) -> Iterator[Line]:
        """The next byte fed is the stream's `offset`th: whatever lay between is lost, and what was held is a piece."""
        if offset != self._offset + len(self._rest):
            yield from self.finish()
            self._offset = offset

    def finish(self) -> Iterator[Line]:
        """What is left at the end of the stream: a piece that no line feed ended."""
        rest, self._rest = self._rest, b""
        if rest:
            yield self._line(rest, partial=True)

    def _line(self, raw: bytes, *, partial: bool) -> Line:
        line = Line(raw.decode("utf-8", "replace"), partial, self._offset)
        self._offset += len(raw)
        return line


def _cut(held: bytes, start: int, stop: int) -> int:
    """`stop`, or the beginning of the character that it would cut in two."""
    for back in range(1, 4):
        byte = held[stop - back]
        if byte < 0x80:
            return stop
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return stop - back if length > back else stop
    return stop
