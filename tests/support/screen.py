# SPDX-License-Identifier: Apache-2.0
"""What somebody at a terminal sees: the bytes that a program sent, drawn."""

from __future__ import annotations

import pyte


class Screen:
    """Draws what it is fed, as a terminal of that size."""

    def __init__(self, rows: int, cols: int) -> None:
        self._screen = _Drawing(cols, rows)
        self._stream = pyte.ByteStream(self._screen)

    def feed(self, data: bytes) -> None:
        self._stream.feed(data)

    def resize(self, rows: int, cols: int) -> None:
        self._screen.resize(rows, cols)

    @property
    def lines(self) -> list[str]:
        """From top to bottom, without the blanks at their ends."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def cursor_line(self) -> str:
        """The line that the cursor is in."""
        return self.lines[self._screen.cursor.y]


class _Drawing(pyte.Screen):
    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        # With a `?` it is a question about the keyboard, which pyte does not know of; vim asks it.
        if not private:
            super().select_graphic_rendition(*attributes)
