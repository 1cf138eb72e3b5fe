# SPDX-License-Identifier: Apache-2.0
"""A transport that sends the head of an answer with what follows it, and lets its owner linger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from atoll_server.api.trailers import Trailers

_LAST_CHUNK = b"0\r\n\r\n"


class Corked:
    """A transport that holds a response's head back until its body follows or the loop comes round, and that does not
    close before `linger` says so.

    uvicorn writes head and body apart, which costs a system call and wakes the client twice.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        linger: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._linger = linger
        self._lingers = False
        self._held = b""
        self.trailers: Trailers | None = None
        """Those of the newest request."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def bare(self) -> asyncio.Transport:
        """The transport itself, with nothing held back. Nobody is asked about its end any more."""
        self._flush()
        self._linger = bool
        return self._transport

    def write(self, data: bytes) -> None:
        if self._lingers:
            return
        if self.trailers is not None and self.trailers.answered and data.endswith(_LAST_CHUNK):
            lines = b"".join(b"%s: %s\r\n" % pair for pair in self.trailers.answered)
            data, self.trailers = data[:-2] + lines + b"\r\n", None
        if self._held:
            data, self._held = self._held + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._held = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._lingers or self._transport.is_closing()

    def close(self) -> None:
        self._flush()
        if not self._transport.is_closing() and self._linger():
            self._lingers = True
            self._transport.write_eof()
            return
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)
