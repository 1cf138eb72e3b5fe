# SPDX-License-Identifier: Apache-2.0
"""The proxy as a process: started, found again by its number, known to live without being asked, and ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from atoll_server import host
from atoll_server.network.control import listen
from atoll_server.network.proxy import ProxySettings

START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 10.0
MODULE: Final = "atoll_server.network.proxy"


class Life:
    """Of one process. `process` is its pidfd, which is closed at its end."""

    def __init__(self, process: int) -> None:
        self._process: int | None = process
        # Many threads ask, and a number that one of them gave back may be another file's.
        self._lock = threading.Lock()

    def goes_on(self) -> bool:
        """Whether the process has not ended."""
        with self._lock:
            if self._process is not None and _wait_end(self._process, 0):
                self._let_go()
            return self._process is not None

    def close(self) -> None:
        """Take it for over. Repeating it is harmless."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        if self._process is not None:
            os.close(self._process)
            self._process = None


class ProxyProcess:
    """At most one, in a directory of its own. `settings` are those for a control socket's descriptor and a root.

    Who calls it takes care that nobody else does meanwhile. A `Life` may be asked at any time.
    """

    def __init__(self, directory: Path, settings: Callable[[int, str], ProxySettings]) -> None:
        self._directory = directory
        self._settings = settings
        self._root = directory / "root"
        self._pid_file = directory / "proxy.pid"
        self._program: host.Background | None = None
        self.life: Life | None = None
        """Of the process that was last started or found; None where it is not known which that is."""

    def start(self) -> None:
        """Start one, after the end of one that does not answer: what it holds would be in the way."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root.mkdir(mode=0o755, exist_ok=True)
        self._end_silent()
        with listen(self._directory / "control.sock") as control:
            settings = msgspec.json.encode(self._settings(control.fileno(), str(self._root)))
            argv = [sys.executable, "-P", "-m", MODULE, settings.decode()]
            self._program = host.Background(
                argv, pass_fds=[control.fileno()], timeout=START_TIMEOUT
            )
        self._pid_file.write_text(str(self._program.pid), encoding="ascii")
        self._follow()

    def find(self) -> None:
        """Follow the life of one that answers, whoever has started it."""
        if not self.is_known_to_live():
            self._follow()

    def is_known_to_live(self) -> bool:
        """Whether the one that was last started or found has not ended; it may not answer all the same."""
        return self.life is not None and self.life.goes_on()

    def end(self) -> None:
        """Wait for the end of one that was told to stop, if this run of the server has started it."""
        self.close()
        if self._program is None:
            return
        try:
            self._program.wait(STOP_TIMEOUT)
        except host.HostCommandFailed:
            self._program.kill()  # one that is stuck must not outlast the server that would replace it

    def close(self) -> None:
        """Follow it no longer. It goes on."""
        if self.life is not None:
            self.life.close()

    def _follow(self) -> None:
        self.close()
        process = self._open()
        self.life = None if process is None else Life(process)

    def _end_silent(self) -> None:
        if self._program is not None:
            self._program.kill()
        if (process := self._open()) is not None:
            # It may end by itself at this moment.
            with contextlib.closing(Life(process)), contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
                _wait_end(process, START_TIMEOUT)

    def _open(self) -> int | None:
        """A pidfd of the process that the file names, if it is a proxy of this directory."""
        # Without the file, or the process, there is none; another program may have its number now.
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._pid_file.read_text())
            process = os.pidfd_open(pid)
            with contextlib.ExitStack() as unused:
                unused.callback(os.close, process)
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if MODULE.encode() in command and os.fsencode(self._root) in command:
                    unused.pop_all()
                    return process
        return None


def _wait_end(process: int, seconds: float) -> bool:
    """Whether a process has ended within so long."""
    poller = select.poll()
    poller.register(process, select.POLLIN)
    return bool(poller.poll(seconds * 1000))
