# SPDX-License-Identifier: Apache-2.0
"""Both ends of a connection whose TLS ends here; what passes is counted."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

from atoll_server.network.gate import Direction, Gate, OpenFlow
from atoll_server.network.secrets import Secret
from atoll_server.network.side import Side
from atoll_server.network.tls import TlsFailed, TlsSide

LINGER_BYTES: Final = 256 * 1024
LINGER_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Line:
    """`client` is inside; `server` the host, over `outside`. `meant` are the secrets that it may have."""

    gate: Gate
    flow: OpenFlow
    meant: tuple[Secret, ...]
    client: TlsSide
    server: TlsSide
    outside: Side

    async def send(self, said: bytes) -> None:
        """Say it to the host."""
        await self._pass(self.server, said, Direction.SENT)

    async def tell(self, said: bytes) -> None:
        """Say it to the client."""
        await self._pass(self.client, said, Direction.RECEIVED)

    async def _pass(self, to: TlsSide, said: bytes, direction: Direction) -> None:
        await to.write(said)
        wait = self.gate.count_bytes(self.flow, direction, len(said))
        if wait > 0:
            await asyncio.sleep(wait)


async def end_client(client: TlsSide) -> None:
    """End, and take what still comes for a moment: unread, it would make of the end a reset."""
    await client.end()
    left = LINGER_BYTES
    with contextlib.suppress(TimeoutError, TlsFailed):
        async with asyncio.timeout(LINGER_SECONDS):
            while left > 0 and (piece := await client.read()):
                left -= len(piece)
