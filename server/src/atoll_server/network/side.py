# SPDX-License-Identifier: Apache-2.0
"""One side of a connection: read piece by piece until it has shown what it is, then given over to a receiver.

asyncio's streams would copy what passes three times more.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

from atoll_server.network.holding import Holding

MAX_UNREAD = 64 * 1024
"""What is kept of a side that nobody reads; it is asked for no more until that is taken."""

CLOSING_SECONDS = 60.0
"""How long whoever is at the other end may take for what is unsent when a side is closed."""


class Receiver(Protocol):
    """Takes what comes from a side, as it comes."""

    def receive(self, piece: bytes) -> None:
        """Something came."""
        ...

    def end(self) -> None:
        """Nothing more will come."""
        ...

    def lose(self) -> None:
        """The connection is gone, after its end or without one."""
        ...


class Side(asyncio.BufferedProtocol):
    """A TCP connection. `opened` is called once it is there. What it holds is counted in `holding`."""

    def __init__(
        self, opened: Callable[[Side], None] | None = None, holding: Holding | None = None
    ) -> None:
        self._opened = opened
        self._holding = holding or Holding()
        self._held_unread = self._held_unsent = 0
        self._unread = bytearray()
        self._has_ended = False
        self._is_lost = False
        self._news: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._receiver: Receiver | None = None
        self._fed_by: Side | None = None
        self._held: set[str] = set()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What uvloop passes is one, though not of its class.
        self._transport = cast(asyncio.Transport, transport)
        # One piece is kept at most: nothing more is read for it while anything is unsent.
        self._transport.set_write_buffer_limits(high=0)
        if self._opened is not None:
            self._opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._holding.find_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        data = self._holding.copy(nbytes)
        if self._receiver is not None:
            self._receiver.receive(data)
            return
        self._unread += data
        self._count_unread()
        if len(self._unread) > MAX_UNREAD or self._holding.is_full:
            self.hold("unread")
        self._tell()

    def eof_received(self) -> bool:
        self._has_ended = True
        self._tell()
        if self._receiver is not None:
            self._receiver.end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_ended = self._is_lost = True
        self._count_unsent(0)
        self._tell()
        self._room.set()
        if self._receiver is not None:
            self._receiver.lose()

    def pause_writing(self) -> None:
        self._room.clear()
        if self._fed_by is not None:
            self._fed_by.hold("unsent")

    def resume_writing(self) -> None:
        self._count_unsent(0)
        self._room.set()
        if self._fed_by is not None:
            self._fed_by.release("unsent")

    # What we call.

    @property
    def local_address(self) -> tuple[str, int]:
        """The address at which the connection came in, and the port."""
        host, port, *_ = self._transport.get_extra_info("sockname")
        return host, port

    @property
    def is_gone(self) -> bool:
        """Whether nothing can be sent to it any more."""
        return self._transport.is_closing()

    async def read(self) -> bytes:
        """What has come; waits for it, and is empty at the end."""
        while not self._unread and not self._has_ended:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        piece = bytes(self._unread[:MAX_UNREAD])
        del self._unread[:MAX_UNREAD]
        self._count_unread()
        if not self._unread:
            self.release("unread")
        return piece

    def give_to(self, receiver: Receiver, *, feeding: Side) -> None:
        """Have all that comes from now on, and what has come, go to `receiver`, which sends it on to `feeding`."""
        self._receiver = receiver
        feeding._fed_by = self
        if self._unread:
            receiver.receive(bytes(self._unread))
            self._unread.clear()
            self._count_unread()
        self.release("unread")
        if self._has_ended:
            receiver.end()
        if self._is_lost:
            receiver.lose()

    def write(self, piece: bytes) -> None:
        """Send, without waiting; to a side that is gone, nothing."""
        if piece and not self._transport.is_closing():
            self._transport.write(piece)
            if not self._room.is_set():
                # It is kept whole until the last byte of it is sent.
                self._count_unsent(self._held_unsent + len(piece))

    async def drain(self) -> None:
        """Wait while too much is unsent; not for a side that is gone."""
        await self._room.wait()

    def write_end(self) -> None:
        """Let it know that nothing more will be sent."""
        if not self._transport.is_closing():
            self._transport.write_eof()

    def hold(self, why: str) -> None:
        """Take nothing from it for this reason, until that is released."""
        if not self._held and not self._is_lost:
            self._transport.pause_reading()
        self._held.add(why)

    def release(self, why: str) -> None:
        """Go on, where nothing else is a reason not to."""
        if why in self._held:
            self._held.remove(why)
            if not self._held and not self._transport.is_closing():
                self._transport.resume_reading()

    def close(self) -> None:
        """End it once all is sent. Where its sandbox holds too much already, now."""
        self._unread.clear()
        self._count_unread()
        if self._held_unsent and self._holding.is_full:
            self.reset()
            return
        self._transport.close()
        if self._held_unsent:
            asyncio.get_running_loop().call_later(CLOSING_SECONDS, self.reset)

    def reset(self) -> None:
        """End it now, so that the other end gets an error and not an end. Repeating it is harmless."""
        if self._is_lost:
            return  # its descriptor may be another connection's by now
        connection = self._transport.get_extra_info("socket")
        # It may have been closed by its other end meanwhile, which leaves nothing to set.
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _count_unread(self) -> None:
        self._holding.held += len(self._unread) - self._held_unread
        self._held_unread = len(self._unread)

    def _count_unsent(self, size: int) -> None:
        self._holding.held += size - self._held_unsent
        self._held_unsent = size

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
