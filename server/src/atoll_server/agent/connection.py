# SPDX-License-Identifier: Apache-2.0
"""One unix connection to an agent: frames out, frames in, deadlines. Knows no operation.

It stands on a bare non-blocking socket: connecting and sending to a unix socket hardly ever wait, so most operations
enter the event loop once, to wait for the answer. asyncio's transports and `loop.sock_*` cost a third more per call.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from atoll_server.agent.errors import AgentUnavailable
from atoll_server.agent.frames import Frame, FrameDecoder, Kind, encode_control, encode_header
from atoll_server.agent.messages import Fields

CONNECT_TIMEOUT: Final = 2.0
SEND_TIMEOUT: Final = 60.0
LINGER: Final = 30.0
BARE_STALL: Final = 600.0
"""How long a program inside may take nothing of what is sent to it: that the sender is gone is not seen meanwhile."""
_FIRST_RETRY: Final = 0.001
_LONGEST_RETRY: Final = 0.02
# Twice a frame in flight, so that neither side waits for the other after each. The kernel doubles it for its own needs.
_BULK_BUFFER: Final = 600 << 10
_SO_SNDBUFFORCE: Final = 32
_SO_PASSRIGHTS: Final = 83
# After this much without a pause other tasks get their turn, however fast the peer sends.
_BYTES_PER_TURN: Final = 1 << 20
# More at once where much comes, as most of what a piece costs is the loop's work around it.
_BARE_BYTES: Final = 64 << 10
_MOST_BARE_BYTES: Final = 256 << 10


class Connection:
    """Used by one reader and one writer at most. Closing it is immediate and may be repeated."""

    def __init__(self, peer: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = peer
        self._decoder = FrameDecoder()
        self._turn = 0
        self._bare_bytes = _BARE_BYTES
        self._is_between_sends = True
        self._lingering: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, path: str, *, wait: float = 0.0) -> Self:
        """Connects. With `wait`, an agent that does not listen yet has that many seconds to begin."""
        clock = asyncio.get_running_loop().time
        begun, pause = clock(), _FIRST_RETRY
        while True:
            try:
                return cls(_connect(path))
            except BlockingIOError:
                # The backlog is full. The kernel has no event for room in it.
                patience, reason = max(wait, CONNECT_TIMEOUT), "has too many connections waiting"
            except (FileNotFoundError, ConnectionRefusedError):
                # Binding and listening are two steps, and nothing tells of the second.
                patience, reason = wait, "does not listen"
            except OSError as error:
                raise AgentUnavailable(f"agent cannot be reached: {error.strerror}") from None
            if clock() - begun >= patience:
                raise AgentUnavailable(f"agent cannot be reached: it {reason}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_RETRY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
        if self._lingering is not None:
            self._lingering.cancel()

    @property
    def is_closed(self) -> bool:
        return self._socket.fileno() < 0

    async def send_control(self, message: Fields) -> bool:
        """Sends, or answers False where the peer has hung up: its last words can still be received."""
        return await self._send([memoryview(encode_control(message))], SEND_TIMEOUT)

    def send_control_for_bulk(self, message: Fields) -> None:
        """Sends a first request, and goes on over a socket of ours that travels with it and holds more.

        What connecting makes holds 208 KiB of what the agent sends, and gVisor does not let the agent ask for more.
        """
        try:
            ours = _send_with_socket(self._socket, encode_control(message))
        except OSError as error:
            raise AgentUnavailable(f"agent cannot be asked: {error.strerror}") from None
        self._socket.close()
        self._socket = ours

    async def send_data(
        self,
        kind: Kind,
        offset: int,
        payload: memoryview | bytes,
        *,
        timeout: float | None = SEND_TIMEOUT,
    ) -> bool:
        """The same for one frame of at most `MAX_DATA_BYTES`, as fast as the peer takes it."""
        header = memoryview(encode_header(kind, offset, len(payload)))
        return await self._send([header, memoryview(payload)], timeout)

    def end_sending(self) -> None:
        """No more will be sent. What the peer still says can be received."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def expect_bulk(self) -> None:
        """Makes room for content on its way; without, gVisor takes a third longer for it."""
        _make_room(self._socket)

    def leave(self, last_words: Fields) -> None:
        """Sends a last message and closes as soon as the peer does, within `LINGER` seconds; nobody has to wait for it.

        Closed at once, a peer that happens to write sees a broken pipe and may never read what was sent before.
        """
        if self.is_closed or not self._is_between_sends:
            return self.close()
        with suppress(OSError):
            self._socket.send(encode_control(last_words))
        self._loop.remove_reader(self._socket)
        self._loop.add_reader(self._socket, self._discard)
        self._lingering = self._loop.call_later(LINGER, self.close)

    async def receive(self, timeout: float | None) -> Frame:
        """The next frame. `timeout` limits only the time without anything to read."""
        while (frame := self._decoder.take()) is None:
            await self._fill(timeout)
        return frame

    async def receive_bare(self) -> bytes:
        """What comes next on a connection that carries no frames any more; empty at its end."""
        if held := self._decoder.rest():
            return held
        while True:
            try:
                data = self._socket.recv(self._bare_bytes)
            except BlockingIOError:
                self._turn = 0
                await self._wait(self._loop.add_reader, self._loop.remove_reader, None)
                continue
            except OSError:
                return b""  # that it broke cannot be told from an end, there being no frames
            self._bare_bytes = _BARE_BYTES if len(data) < _BARE_BYTES else _MOST_BARE_BYTES
            await self._give_way(len(data))
            return data

    def is_quiet(self) -> bool:
        """Whether nothing waits to be received, not even the end."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def send_bare(self, data: memoryview | bytes) -> bool:
        """Sends bytes as they are, as fast as the peer takes them; False where it takes none, or none any more."""
        try:
            return await self._send([memoryview(data)], BARE_STALL)
        except AgentUnavailable:
            return False

    async def _fill(self, timeout: float | None) -> None:
        while True:
            try:
                count = self._socket.recv_into(self._decoder.space())
            except BlockingIOError:
                self._turn = 0
                await self._wait(self._loop.add_reader, self._loop.remove_reader, timeout)
                continue
            except OSError as error:
                raise AgentUnavailable(f"connection to the agent broke: {error.strerror}") from None
            if not count:
                raise AgentUnavailable("agent went away before its answer was complete")
            self._decoder.filled(count)
            break
        await self._give_way(count)

    async def _give_way(self, count: int) -> None:
        self._turn += count
        if self._turn >= _BYTES_PER_TURN:
            self._turn = 0
            await asyncio.sleep(0)

    async def _send(self, parts: list[memoryview], timeout: float | None) -> bool:
        self._is_between_sends = False
        while parts:
            try:
                sent = self._socket.sendmsg(parts)
            except BlockingIOError:
                await self._wait(self._loop.add_writer, self._loop.remove_writer, timeout)
                continue
            except (BrokenPipeError, ConnectionResetError):
                return False
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if parts:
                parts[0] = parts[0][sent:]
        self._is_between_sends = True
        return True

    def _discard(self) -> None:
        try:
            is_over = not self._socket.recv_into(self._decoder.space())
        except BlockingIOError:
            return
        except OSError:
            is_over = True
        if is_over:
            self.close()

    async def _wait(
        self, watch: Callable[..., Any], unwatch: Callable[..., Any], timeout: float | None
    ) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        watch(self._socket, _settle, ready)
        timer = None if timeout is None else self._loop.call_later(timeout, _expire, ready, timeout)
        try:
            await ready
        finally:
            if timer is not None:
                timer.cancel()
            # Once closed, the descriptor's number may be another connection's already.
            if not self.is_closed:
                unwatch(self._socket)


def send_alone(path: str, message: Fields) -> bool:
    """Sends one request on a connection of its own without waiting for what becomes of it. False if that failed."""
    frame = encode_control(message)
    try:
        with _connect(path) as peer:
            return peer.send(frame) == len(frame)
    except OSError:
        return False


def _connect(path: str) -> socket.socket:
    # The directory of the socket is the sandbox's to write. A link in its place must not lead us to another socket of
    # the host, and connect() follows links: so the name is resolved here without following, and connected by inode.
    place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _take_no_descriptors(peer)
        peer.connect(f"/proc/self/fd/{place}")
    except BaseException:
        peer.close()
        raise
    finally:
        os.close(place)
    return peer


def _send_with_socket(peer: socket.socket, frame: bytes) -> socket.socket:
    """Sends a frame, and with it one end of a new pair, whose other end this is."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            ours.setblocking(False)
            _take_no_descriptors(ours)
            # For what comes, which is the sandbox's memory. What we send is ours, and no more of it than else.
            _make_room(theirs)
            if socket.send_fds(peer, [frame], [theirs.fileno()]) < len(frame):
                raise OSError(errno.EMSGSIZE, "it takes no request of this size at once")
        except BaseException:
            ours.close()
            raise
    return ours


def can_refuse_descriptors() -> bool:
    """Whether sandboxes can send the server no descriptors (Linux 6.16). Else no socket of theirs may linger."""
    with socket.socket(socket.AF_UNIX) as tried:
        return _take_no_descriptors(tried)


def _take_no_descriptors(peer: socket.socket) -> bool:
    """Whoever has the agent's place may send descriptors along, and we would close them: of a TCP connection that
    lingers, that is to wait for as long as the sandbox likes. False where the kernel cannot refuse them.
    """
    try:
        peer.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
    except OSError:
        return False
    return True


def _make_room(peer: socket.socket) -> None:
    # Not permitted to a server that is not root: then it goes slower.
    with suppress(PermissionError):
        peer.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BULK_BUFFER)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _expire(ready: asyncio.Future[None], timeout: float) -> None:
    if not ready.done():
        ready.set_exception(AgentUnavailable(f"agent is silent for {timeout:g} s"))
