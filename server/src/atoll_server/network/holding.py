# SPDX-License-Identifier: Apache-2.0
"""What connections of one sandbox hold in the proxy: bytes that came, and that nobody has taken yet."""

from __future__ import annotations

from typing import Final

READ_BYTES: Final = 256 * 1024
"""How much is read at once."""
LITTLE_BYTES: Final = 16 * 1024
"""The same where a sandbox holds too much. So every connection goes on, and what all hold together has an end."""
HELD_BYTES: Final = 24 * 1024 * 1024


def make_buffer() -> memoryview:
    """What is read into. One is enough for all connections of a loop: what came is copied before the next reads."""
    return memoryview(bytearray(READ_BYTES))


class Holding:
    """Of one sandbox. `most` is how many bytes all of it may hold before each connection gets little."""

    def __init__(self, buffer: memoryview | None = None, most: int = HELD_BYTES) -> None:
        self._buffer = make_buffer() if buffer is None else buffer
        self._most = most
        self.held = 0

    @property
    def is_full(self) -> bool:
        """Whether it is too much already."""
        return self.held >= self._most

    def find_buffer(self) -> memoryview:
        """What may be read into now."""
        return self._buffer[:LITTLE_BYTES] if self.is_full else self._buffer

    def copy(self, size: int) -> bytes:
        """What was read."""
        return bytes(self._buffer[:size])
