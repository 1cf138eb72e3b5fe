# SPDX-License-Identifier: Apache-2.0
"""A proxy that cuts every connection in the middle of its answers. `cutting_proxy` cuts a number of them, then none."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

PATIENCE_SECONDS = 60.0


class Cutter:
    """Stands before a server's port. Each connection ends after `lasts()` bytes of answers. Use it with `with`."""

    def __init__(self, port: int, lasts: Callable[[], int]) -> None:
        self.cuts = 0
        self.passed = 0
        self._target = ("127.0.0.1", port)
        self._lasts = lasts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Cutter:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        _shut(self._listener)
        self._accepting.join(PATIENCE_SECONDS)
        for connection in self._open:
            _shut(connection)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        for connection in (self._listener, *self._open):
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(self._target, PATIENCE_SECONDS)
                self._open += [ours, theirs]
                self._start(ours, theirs, None)
                self._start(theirs, ours, self._lasts())

    def _start(self, source: socket.socket, target: socket.socket, lasts: int | None) -> None:
        thread = threading.Thread(target=self._pass_on, args=(source, target, lasts))
        self._threads.append(thread)
        thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, lasts: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data[:lasts])
                if lasts is not None:
                    passed = min(lasts, len(data))
                    self.passed += passed
                    lasts -= passed
                    if not lasts:
                        self.cuts += 1
                        break
        _shut(source)
        _shut(target)


def _shut(connection: socket.socket) -> None:
    # `shutdown` is what wakes a thread that waits in accept or recv; closing alone does not.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
