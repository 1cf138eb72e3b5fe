# SPDX-License-Identifier: Apache-2.0
"""The end of what a command writes, in memory that is bounded."""

from __future__ import annotations

from atoll_server.engine.model import Completed, Exit, Output


class Tails:
    """The last bytes of both streams."""

    def __init__(self, limit: int) -> None:
        self._stdout, self._stderr = Tail(limit), Tail(limit)

    def append(self, output: Output) -> None:
        (self._stdout if output.stream == 1 else self._stderr).append(output.data)

    def completed(self, exit: Exit, *, is_cut: bool = False) -> Completed:
        """The end of a command. `is_cut`: there was output before what came here."""
        is_cut = is_cut or self._stdout.is_cut or self._stderr.is_cut
        return Completed(self._stdout.kept(), self._stderr.kept(), exit, is_cut)


class Tail:
    """The last bytes of a stream, in a ring that never outgrows its limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ring = bytearray()
        self._oldest = 0
        self.is_cut = False

    def append(self, data: bytes) -> None:
        room = self._limit - len(self._ring)
        self._ring += data[:room]
        if len(data) > room:
            self.is_cut = True
            self._overwrite(data[max(room, len(data) - self._limit) :])

    def kept(self) -> bytes:
        """What is left of the stream. Where it was cut, it begins with a whole UTF-8 character."""
        if not self.is_cut:
            return bytes(self._ring)
        view = memoryview(self._ring)
        kept = b"".join((view[self._oldest :], view[: self._oldest]))
        return kept[_continuation_bytes(kept) :]

    def _overwrite(self, data: bytes) -> None:
        fits = self._limit - self._oldest
        self._ring[self._oldest : self._oldest + len(data)] = data[:fits]
        self._ring[: len(data[fits:])] = data[fits:]
        if self._limit:
            self._oldest = (self._oldest + len(data)) % self._limit


def _continuation_bytes(text: bytes) -> int:
    """How many bytes at the beginning belong to a character that began before: at most three."""
    count = 0
    while count < min(3, len(text)) and text[count] & 0xC0 == 0x80:
        count += 1
    return count
