# SPDX-License-Identifier: Apache-2.0
"""The verbs of `Ports`, over a dictionary. On port 3000 somebody listens, who says back what he hears."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime

from atoll_server.clock import ManualClock
from atoll_server.engine import errors
from atoll_server.engine.exposures import check_exposable, check_port
from atoll_server.engine.model import ExposedPort, ListeningPort, SandboxId
from atoll_server.engine.preview_tokens import PreviewTokens

ECHO_PORT = 3000
NOW = datetime(2030, 1, 1, tzinfo=UTC)


class MemoryPorts:
    """The ports of a sandbox. Labels are `label` and a number."""

    def __init__(self, sandbox_id: SandboxId) -> None:
        self.sandbox_id = sandbox_id
        self.exposed: dict[int, ExposedPort] = {}
        self.streams: list[MemoryStream] = []
        self.waited: list[float] = []
        self._tokens = PreviewTokens(bytes(32), ManualClock())
        self._made = 0

    async def expose(self, port: int, *, is_private: bool | None = None) -> ExposedPort:
        check_exposable(port)
        if port not in self.exposed:
            self._made += 1
            label = f"label{self._made}"
            self.exposed[port] = ExposedPort(self.sandbox_id, port, label, False, NOW)
        if is_private is not None:
            self.exposed[port] = dataclasses.replace(self.exposed[port], is_private=is_private)
        return self.exposed[port]

    def list(self) -> tuple[ExposedPort, ...]:
        return tuple(self.exposed.values())

    def get(self, port: int) -> ExposedPort:
        if port not in self.exposed:
            raise errors.PortNotExposed(f"port {port} is not exposed")
        return self.exposed[port]

    async def close(self, port: int) -> None:
        self.get(port)
        del self.exposed[port]

    def token(self, exposed: ExposedPort, *, lasts: float | None = None) -> str:
        return self._tokens.make(exposed, lasts)

    async def listening(
        self, port: int | None = None, *, wait: float = 0.0
    ) -> tuple[ListeningPort, ...]:
        if port is not None:
            check_port(port)
        self.waited.append(wait)
        found = ListeningPort(ECHO_PORT, "127.0.0.1", 7, b"echo \xff")
        return (found,) if port in (None, ECHO_PORT) else ()

    async def dial(self, port: int) -> MemoryStream:
        check_port(port)
        if port != ECHO_PORT:
            raise errors.PortNotListening(f"nothing listens on port {port}")
        self.streams.append(MemoryStream())
        return self.streams[-1]


class MemoryStream:
    """Says back what it hears, and ends when the other side does."""

    def __init__(self) -> None:
        self.is_closed = False
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def receive(self) -> bytes:
        return await self._heard.get()

    async def send(self, data: bytes) -> bool:
        await self._heard.put(data)
        return True

    def end_sending(self) -> None:
        self._heard.put_nowait(b"")

    def close(self) -> None:
        self.is_closed = True
