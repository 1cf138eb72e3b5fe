# SPDX-License-Identifier: Apache-2.0
"""The ports of one sandbox: which ones listen, which ones are exposed, and connections to any of them.

The agent connects, inside: a program bound to the loopback is reached, and no address of a sandbox is ever used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from atoll_server.agent.client import AgentClient
from atoll_server.agent.ports import PortStream
from atoll_server.engine import errors
from atoll_server.engine.exposures import Exposures, check_port
from atoll_server.engine.failures import Failures, Kinds
from atoll_server.engine.model import ExposedPort, ListeningPort, SandboxId
from atoll_server.engine.preview_tokens import PreviewTokens

__all__ = ["STREAMS_LIMIT", "WAIT_LIMIT", "PortStream", "Ports", "Streams"]

WAIT_LIMIT: Final = 60.0
STREAMS_LIMIT: Final = 2048
"""Of one sandbox at a time. Each costs the server two descriptors, of which one sandbox must not get all."""

_KINDS: Final[Kinds] = {
    "refused": errors.PortNotListening,
    "busy": errors.ResourceExhausted,
    "limit": errors.ResourceExhausted,
    "invalid": errors.InvalidPort,
}


class Streams:
    """How many connections to ports a sandbox has."""

    def __init__(self) -> None:
        self._count = 0

    def take(self) -> None:
        """One more. Raises `ResourceExhausted`."""
        if self._count >= STREAMS_LIMIT:
            raise errors.ResourceExhausted(
                f"the sandbox has {STREAMS_LIMIT} connections to its ports, which is the limit"
            )
        self._count += 1

    def give(self) -> None:
        """One less."""
        self._count -= 1


class Ports:
    """What one does with the ports of one sandbox. `check` raises once the sandbox has ended."""

    def __init__(
        self,
        agent: AgentClient,
        sandbox_id: SandboxId,
        exposures: Exposures,
        tokens: PreviewTokens,
        lock: asyncio.Lock,
        streams: Streams,
        check: Callable[[], object],
        exposable: tuple[int, ...] | None = None,
    ) -> None:
        self._agent = agent
        self._sandbox_id = sandbox_id
        refused = f"nothing listens on port {{}} in sandbox {sandbox_id}"
        self._failures = Failures(sandbox_id, _KINDS, {"refused": refused})
        self._exposures = exposures
        self._tokens = tokens
        self._lock = lock
        self._streams = streams
        self._check = check
        self._exposable = exposable

    async def expose(self, port: int, *, is_private: bool | None = None) -> ExposedPort:
        """Let the outside reach a port; may be repeated. Raises `InvalidPort` or `ResourceExhausted`."""
        self._check_ingress(port)
        async with self._lock:
            self._check()
            return await self._exposures.expose(self._sandbox_id, port, is_private=is_private)

    def list(self) -> tuple[ExposedPort, ...]:
        """The exposed ports, by number."""
        return self._exposures.of(self._sandbox_id)

    async def close(self, port: int) -> None:
        """Let nobody reach a port any more. Raises `PortNotExposed`."""
        async with self._lock:
            self._check()
            await self._exposures.close(self._sandbox_id, port)

    def get(self, port: int) -> ExposedPort:
        """An exposed port. Raises `PortNotExposed`."""
        for exposed in self.list():
            if exposed.port == port:
                return exposed
        raise errors.PortNotExposed(
            f"port {port} of sandbox {self._sandbox_id} is not exposed", sandbox_id=self._sandbox_id
        )

    def token(self, exposed: ExposedPort, *, lasts: float | None = None) -> str:
        """What opens a private port: for so many seconds, or until it is closed."""
        return self._tokens.make(exposed, lasts)

    async def listening(
        self, port: int | None = None, *, wait: float = 0.0
    ) -> tuple[ListeningPort, ...]:
        """What listens inside, or does on one port; where that is nothing it waits `wait` seconds, a minute at most."""
        if port is not None:
            check_port(port)
        with self._failures.translated(port):
            return tuple(await self._agent.ports(port, wait=min(wait, WAIT_LIMIT)))

    async def dial(self, port: int, early: bytes = b"") -> PortStream:
        """A connection to any port inside, which the caller closes; `early` is sent without waiting for it to stand.

        Raises `InvalidPort` or `PortNotListening`.
        """
        check_port(port)
        self._streams.take()
        try:
            with self._failures.translated(port):
                stream = await self._agent.dial(port, early)
        except BaseException:
            self._streams.give()
            raise
        stream.on_close = self._streams.give
        return stream

    def _check_ingress(self, port: int) -> None:
        if self._exposable is not None and port not in self._exposable:
            listed = ", ".join(map(str, self._exposable)) or "none"
            raise errors.InvalidPort(
                f"port {port} cannot be exposed: the ports that this sandbox was created to expose are {listed}",
                sandbox_id=self._sandbox_id,
            )
