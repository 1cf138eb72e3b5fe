# SPDX-License-Identifier: Apache-2.0
"""This program's own terminal: its size, raw mode, and keys that leave."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

STDIN, STDOUT = 0, 1
LEAVE = b"\x10\x11"
"""Ctrl-P Ctrl-Q."""
DEFAULT_SIZE = (24, 80)

RESTORE = (
    b"\x1b[?1l\x1b[?25h\x1b[?47l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b>\x1b[m"
)
"""What programs that are left behind would have undone: key modes, the hidden cursor, the other screen, the mouse."""


class LeaveKeys:
    """Finds Ctrl-P Ctrl-Q in what is typed. A Ctrl-P waits for the next key, and goes with it."""

    def __init__(self) -> None:
        self._held = b""
        self.found = False

    def feed(self, typed: bytes) -> bytes:
        """What is to be passed on; nothing once the keys were `found`, nor what was typed behind them."""
        if self.found:
            return b""
        data = self._held + typed
        before, keys, _ = data.partition(LEAVE)
        if keys:
            self.found = True
            return before
        self._held = LEAVE[:1] if data.endswith(LEAVE[:1]) else b""
        return data[: len(data) - len(self._held)]


def is_terminal() -> bool:
    """Whether one can type here: standard input is a terminal."""
    return os.isatty(STDIN)


def terminal_size() -> tuple[int, int]:
    """Rows and columns of our terminal, or the usual ones."""
    for descriptor in (STDOUT, STDIN, 2):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(descriptor)
            if size.lines and size.columns:
                return size.lines, size.columns
    return DEFAULT_SIZE


def terminal_environment() -> dict[str, str]:
    """What programs at a terminal are told of ours."""
    names = ("TERM", "COLORTERM")
    return {name: os.environ[name] for name in names if os.environ.get(name)}


@contextlib.contextmanager
def raw_mode() -> Iterator[None]:
    """Keys come as they are typed, and nothing is echoed, if one types here at all. Undone on every way out."""
    if not is_terminal():
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(STDIN)
    try:
        tty.setraw(STDIN, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


def restore_screen() -> None:
    """After leaving a program that did not end."""
    if os.isatty(STDOUT):
        sys.stdout.flush()
        write_all(STDOUT, RESTORE)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of it, however long that takes."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # somebody who shares our terminal made it non-blocking
            _wait_writable(descriptor)


def _wait_writable(descriptor: int) -> None:
    import select

    select.select([], [descriptor], [])
