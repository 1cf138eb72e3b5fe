# SPDX-License-Identifier: Apache-2.0
"""Which ports of which sandboxes the outside may reach, and under what name. Survives a restart.

The name of an exposed port has 103 random bits in it, for it is all that protects a public one. It is never used again:
a port that was closed and is exposed once more gets another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from atoll_server.clock import Clock
from atoll_server.engine import errors
from atoll_server.engine.ids import new_port_label
from atoll_server.engine.model import ExposedPort, SandboxId
from atoll_server.engine.store import Store
from atoll_server.engine.threads import in_thread

LOWEST_PORT: Final = 1024
HIGHEST_PORT: Final = 65_535
PORTS_LIMIT: Final = 100


class Exposures:
    """All exposed ports. Whoever changes those of a sandbox holds that sandbox's lock."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._by_sandbox: dict[SandboxId, dict[int, ExposedPort]] = {}
        self._by_label: dict[str, ExposedPort] = {}

    async def load(self, is_live: Callable[[SandboxId], bool]) -> None:
        """Take up what an earlier server kept, and forget what belongs to sandboxes that have ended since."""
        kept = await in_thread(self._store.ports)
        for exposed in kept:
            if is_live(exposed.sandbox_id):
                self._remember(exposed)
        for sandbox_id in {exposed.sandbox_id for exposed in kept} - self._by_sandbox.keys():
            await self._remove(sandbox_id)

    async def expose(
        self, sandbox_id: SandboxId, port: int, *, is_private: bool | None = None
    ) -> ExposedPort:
        """Let the outside reach a port. One that is exposed stays as it is, but for what `is_private` says of it."""
        check_exposable(port)
        known = self._by_sandbox.get(sandbox_id, {}).get(port)
        if known is not None and is_private in (None, known.is_private):
            return known
        if known is not None:
            wanted = replace(known, is_private=bool(is_private))
        else:
            self._check_room(sandbox_id)
            now = self._clock.now()
            wanted = ExposedPort(sandbox_id, port, new_port_label(), bool(is_private), now)
        await in_thread(lambda: self._store.put_port(wanted))
        self._remember(wanted)
        return wanted

    def of(self, sandbox_id: SandboxId) -> tuple[ExposedPort, ...]:
        """The exposed ports of a sandbox, by number."""
        ports = self._by_sandbox.get(sandbox_id, {})
        return tuple(ports[port] for port in sorted(ports))

    def find(self, port: int, label: str) -> ExposedPort | None:
        """The exposed port of that name. How long this takes says nothing of names that there are: it is a hash."""
        found = self._by_label.get(label)
        return found if found is not None and found.port == port else None

    async def close(self, sandbox_id: SandboxId, port: int) -> None:
        """Let nobody reach a port any more. Raises `PortNotExposed`."""
        exposed = self._by_sandbox.get(sandbox_id, {}).get(port)
        if exposed is None:
            raise errors.PortNotExposed(
                f"port {port} of sandbox {sandbox_id} is not exposed", sandbox_id=sandbox_id
            )
        # Nobody gets through from here on, even if the store should fail.
        del self._by_sandbox[sandbox_id][port]
        del self._by_label[exposed.label]
        await in_thread(lambda: self._store.remove_port(sandbox_id, port))

    async def forget(self, sandbox_id: SandboxId) -> None:
        """Close all of a sandbox that has ended. Most have none, and cost nothing."""
        exposed = self._by_sandbox.pop(sandbox_id, {})
        for one in exposed.values():
            del self._by_label[one.label]
        if exposed:
            await self._remove(sandbox_id)

    async def _remove(self, sandbox_id: SandboxId) -> None:
        await in_thread(lambda: self._store.remove_ports(sandbox_id))

    def _remember(self, exposed: ExposedPort) -> None:
        self._by_sandbox.setdefault(exposed.sandbox_id, {})[exposed.port] = exposed
        self._by_label[exposed.label] = exposed

    def _check_room(self, sandbox_id: SandboxId) -> None:
        if len(self._by_sandbox.get(sandbox_id, ())) >= PORTS_LIMIT:
            raise errors.ResourceExhausted(
                f"sandbox {sandbox_id} has {PORTS_LIMIT} ports exposed, which is the limit: close one",
                sandbox_id=sandbox_id,
            )


def check_exposable(port: int) -> None:
    """Raises `InvalidPort` for those that nobody may expose."""
    if not LOWEST_PORT <= port <= HIGHEST_PORT:
        raise errors.InvalidPort(
            f"port {port} cannot be exposed: choose one from {LOWEST_PORT} to {HIGHEST_PORT}"
        )


def check_port(port: int) -> None:
    """Raises `InvalidPort` for a number that is no port at all."""
    if not 1 <= port <= HIGHEST_PORT:
        raise errors.InvalidPort(f"port {port} does not exist: ports are 1 to {HIGHEST_PORT}")
