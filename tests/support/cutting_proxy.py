# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that drops connections after a random number of bytes of what the server says."""

from __future__ import annotations

import asyncio
import contextlib
import random

_PIECE = 16 * 1024


class CuttingProxy:
    """Between clients and a server's port, on the running event loop. Use it with `async with`.

    It passes everything on until `cut` has been called; then it drops so many connections, each after fewer than
    `within` bytes of answers, and passes everything on again. Half of them end in order, half are reset.
    """

    def __init__(self, port: int, seed: int) -> None:
        self.cuts = 0
        self._port = port
        self._random = random.Random(seed)
        self._wanted = 0
        self._within = 1
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    def cut(self, wanted: int, *, within: int) -> None:
        """From now on drop `wanted` connections."""
        self._wanted, self._within = wanted, within

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError):
                await self._relay(client, answers)
        finally:
            self._connections.discard(task)
            answers.transport.abort()

    async def _relay(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        server, requests = await asyncio.open_connection("127.0.0.1", self._port)
        ways = (
            asyncio.ensure_future(_pass_on(client, requests)),
            asyncio.ensure_future(self._answer(server, answers)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Before anything that waits, for that may be cancelled.
            requests.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _answer(self, server: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        left: int | None = None
        while data := await server.read(_PIECE):
            if left is None and self._wanted:
                self._wanted -= 1
                left = self._random.randrange(self._within)
            answers.write(data if left is None else data[:left])
            await answers.drain()
            if left is not None:
                left -= len(data)
                if left <= 0:
                    self.cuts += 1
                    await self._hang_up(answers)
                    return
        await self._hang_up(answers)
        # Ended before its turn: another is dropped in its place.
        self._wanted += left is not None

    async def _hang_up(self, answers: asyncio.StreamWriter) -> None:
        if self._random.random() < 0.5:
            answers.transport.abort()
            return
        answers.close()
        await answers.wait_closed()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(_PIECE):
        target.write(data)
        await target.drain()
