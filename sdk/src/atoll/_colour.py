# SPDX-License-Identifier: Apache-2.0
"""The few things that asynchronous and synchronous code do differently, in pairs; `tools/unasync.py` swaps them."""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    closing,
    nullcontext,
)
from typing import TYPE_CHECKING, BinaryIO, ParamSpec, TypeVar

if TYPE_CHECKING:
    import asyncio

    import websockets.asyncio.client
    import websockets.sync.client

    from ._dial import Dial

    AsyncConnection = websockets.asyncio.client.ClientConnection
    SyncConnection = websockets.sync.client.ClientConnection

CHUNK_BYTES = 1024 * 1024
"""What is read, handed over or written at once."""

STOP_SECONDS = 10.0
"""How long one waits for a thread that is to end: it may be about to connect, or rest before it tries again."""

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

AsyncOnLine = Callable[[str], Awaitable[object] | object]
"""A callback for lines; what it returns is waited for where it can be."""
SyncOnLine = Callable[[str], object]
AsyncByteSource = Iterable[bytes] | AsyncIterable[bytes] | BinaryIO
SyncByteSource = Iterable[bytes] | BinaryIO


async def async_sleep(seconds: float) -> None:
    import anyio

    await anyio.sleep(seconds)


def sync_sleep(seconds: float) -> None:
    time.sleep(seconds)  # noqa: TID251 - waiting out a back-off is waiting for time


async def async_run(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Calls what blocks (local files, starting a program) off the event loop."""
    import anyio.to_thread

    return await anyio.to_thread.run_sync(functools.partial(function, *args, **kwargs))


def sync_run(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    return function(*args, **kwargs)


async def async_settle(returned: object) -> None:
    """Waits for what a callback returned, if that can be waited for."""
    if inspect.isawaitable(returned):
        await returned


def sync_settle(returned: object) -> None:
    if inspect.iscoroutine(returned):
        returned.close()
        raise TypeError(
            "this client is synchronous: a coroutine cannot be its callback; use AsyncAtoll"
        )


def async_shield(seconds: float) -> AbstractContextManager[object]:
    """Cleaning up that must go on although its task was cancelled, for so long at most."""
    import anyio

    return anyio.move_on_after(seconds, shield=True)


def sync_shield(seconds: float) -> AbstractContextManager[object]:
    return nullcontext()


class AsyncBackground:
    """Work that goes on beside its maker, in a task."""

    def __init__(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        self._work = work
        self._name = name
        self._task: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        import asyncio

        self._task = asyncio.ensure_future(self._run())

    async def wait(self, seconds: float | None) -> bool:
        """Whether it has ended, within so long."""
        import asyncio

        if self._task is not None:
            await asyncio.wait((self._task,), timeout=seconds)
        return not self.is_alive

    async def stop(self, hang_up: Callable[[], None]) -> None:
        """Ends it, from outside or from within."""
        import asyncio

        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        await self._work()


class SyncBackground:
    """The same, in a thread, which does not keep the program from ending."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._thread = threading.Thread(target=work, name=name, daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def wait(self, seconds: float | None) -> bool:
        if self._thread is not threading.current_thread():
            self._thread.join(seconds)
        return not self.is_alive

    def stop(self, hang_up: Callable[[], None]) -> None:
        """`hang_up` wakes it where it waits for a connection; elsewhere it must see by itself that it is to end."""
        if self._thread is not threading.current_thread():
            hang_up()
            self._thread.join(STOP_SECONDS)


def async_closing(
    chunks: AsyncGenerator[bytes, None],
) -> AbstractAsyncContextManager[AsyncGenerator[bytes, None]]:
    """Ends a generator that may not have been read to its end, in the task that reads it."""
    return aclosing(chunks)


def sync_closing(chunks: Iterator[bytes]) -> AbstractContextManager[Iterator[bytes]]:
    return closing(chunks)  # type: ignore[type-var] # the transport declares its generators as iterators


async def async_dial(dial: Dial) -> AsyncConnection:
    """Opens a WebSocket."""
    from websockets.asyncio.client import connect, unix_connect

    if dial.path is not None:
        return await unix_connect(dial.path, dial.uri, **dial.options)
    return await connect(dial.uri, proxy=None, **dial.options)


def sync_dial(dial: Dial) -> SyncConnection:
    from websockets.sync.client import connect, unix_connect

    # `legacy` asks for a connection that lives on without a `with` block.
    if dial.path is not None:
        return unix_connect(dial.path, dial.uri, legacy=True, **dial.options)
    return connect(dial.uri, proxy=None, legacy=True, **dial.options)


async def async_receive(socket: AsyncConnection, seconds: float | None) -> str | bytes:
    """The next message. Raises `TimeoutError` when none comes for so long."""
    import anyio

    with anyio.fail_after(seconds):
        return await socket.recv()


def sync_receive(socket: SyncConnection, seconds: float | None) -> str | bytes:
    return socket.recv(seconds)


async def async_chunks(source: AsyncByteSource) -> AsyncIterator[bytes]:
    """The bytes of whatever can be uploaded. What blocks is read in a worker thread."""
    if hasattr(source, "__aiter__"):
        async for chunk in source:
            yield check_chunk(chunk)
        return
    blocks = sync_chunks(source)
    while (chunk := await async_run(next, blocks, None)) is not None:
        yield chunk


def sync_chunks(source: SyncByteSource) -> Iterator[bytes]:
    if not hasattr(source, "read"):
        yield from map(check_chunk, source)
        return
    while chunk := source.read(CHUNK_BYTES):
        yield check_chunk(chunk)


def check_chunk(chunk: object) -> bytes:
    if not isinstance(chunk, bytes | bytearray | memoryview):
        raise TypeError(
            f"bytes are uploaded, not {type(chunk).__name__}; open files in binary mode"
        )
    return bytes(chunk)
