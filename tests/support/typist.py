# SPDX-License-Identifier: Apache-2.0
"""Somebody at a terminal: runs a program at a pseudo-terminal of ours, types, and reads what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.support.screen import Screen

PATIENCE_SECONDS = 60.0


class Typist:
    """Use it with `with`: the program is killed at the end of the block if it still runs."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        rows: int = 33,
        cols: int = 99,
    ) -> None:
        self.shown = b""
        self.screen = Screen(rows, cols)
        self._ours, theirs = pty.openpty()
        self.resize(rows, cols)
        self.modes_before = termios.tcgetattr(self._ours)
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        # Held, so that what is left in the terminal can still be read once the program has ended.
        self._theirs = theirs

    @property
    def modes(self) -> list[Any]:
        """How the terminal is set."""
        return termios.tcgetattr(self._ours)

    def type(self, text: str | bytes) -> None:
        os.write(self._ours, text.encode() if isinstance(text, str) else text)

    def resize(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def resize_and_tell(self, rows: int, cols: int) -> None:
        """As a terminal's window does it."""
        self.resize(rows, cols)
        self.screen.resize(rows, cols)
        self.signal(signal.SIGWINCH)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait_shown(self, wanted: str | bytes) -> bytes:
        """What was shown up to what is wanted; the next call looks behind it."""
        wanted = wanted.encode() if isinstance(wanted, str) else wanted
        deadline = time.monotonic() + PATIENCE_SECONDS
        while wanted not in self.shown:
            left = deadline - time.monotonic()
            if left < 0 or not self._read(left):
                raise AssertionError(f"{wanted!r} was not shown, but {self.shown!r}")
        before, _, self.shown = self.shown.partition(wanted)
        return before + wanted

    def wait_seen(self, look: Callable[[Screen], bool]) -> None:
        """Until the screen looks like that."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not look(self.screen):
            left = deadline - time.monotonic()
            if left < 0 or not self._read(left):
                drawn = "\n".join(self.screen.lines)
                raise AssertionError(f"the screen does not look as it should:\n{drawn}")

    def wait_ended(self) -> int:
        """The program's exit status."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"it still runs; it showed {self.shown!r}")
            self._read(0.05)
        while self._read(0.0):
            pass
        return self._process.returncode

    def __enter__(self) -> Typist:
        return self

    def __exit__(
        self,
        kind: object,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._theirs)
        os.close(self._ours)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        data = os.read(self._ours, 65536)
        self.shown += data
        self.screen.feed(data)
        return True
