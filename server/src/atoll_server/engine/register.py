# SPDX-License-Identifier: Apache-2.0
"""Which sandboxes there are: those on their way, and those of which something exists on the host.

Anybody may look; only the lifecycle writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from atoll_server.engine import errors, states
from atoll_server.engine.live import Creation, Live, not_usable
from atoll_server.engine.model import Limits, Sandbox, SandboxId, State
from atoll_server.engine.site import Site


class Register:
    """All that are not terminated, by their ids, the oldest first."""

    def __init__(self) -> None:
        self._live: dict[SandboxId, Live] = {}
        self._creating: dict[SandboxId, Creation] = {}

    def count(self) -> int:
        """How many there are, without those on their way."""
        return len(self._live)

    def live(self, sandbox_id: SandboxId, may: Callable[[State], bool] = states.can_exec) -> Live:
        """The sandbox if one may run commands in it, or do else what `may` says; if not, the error that says why."""
        live = self._live.get(sandbox_id)
        if live is None:
            raise errors.SandboxNotFound(
                f"no sandbox {sandbox_id}: unknown or terminated", sandbox_id=sandbox_id
            )
        if not may(live.sandbox.state):
            raise not_usable(live.sandbox)
        return live

    def find(self, sandbox_id: SandboxId) -> Live | None:
        """The sandbox in whatever state, unless it is terminated or still being created."""
        return self._live.get(sandbox_id)

    def select(self, may: Callable[[State], bool]) -> list[Live]:
        """Those that are in such a state."""
        return [live for live in self._live.values() if may(live.sandbox.state)]

    def ids(self) -> set[SandboxId]:
        """Those of all, also of those on their way."""
        return {*self._live, *self._creating}

    def records(self) -> list[Sandbox]:
        """What is known of all, also of those on their way."""
        on_their_way = [creation.sandbox for creation in self._creating.values()]
        return [*on_their_way, *(live.sandbox for live in self._live.values())]

    def promised(self) -> list[Limits]:
        """What of the host is taken, or promised to those on their way."""
        standing = [live.sandbox for live in self.select(states.holds_room)]
        standing += [creation.sandbox for creation in self._creating.values()]
        return [sandbox.spec.limits for sandbox in standing]

    def running_sites(self) -> list[Site]:
        """The places on the host where something runs."""
        return [live.site for live in self.select(states.holds_room)]

    def creating_count(self) -> int:
        """How many are on their way."""
        return len(self._creating)

    def add(self, live: Live) -> None:
        self._live[live.sandbox.id] = live

    def remove(self, sandbox_id: SandboxId) -> None:
        """Forget one that is terminated. May be repeated."""
        self._live.pop(sandbox_id, None)

    @contextlib.asynccontextmanager
    async def creating(self, sandbox: Sandbox) -> AsyncIterator[None]:
        """It is on its way: whoever ends a sandbox in this block waits for the end of the block."""
        self._creating[sandbox.id] = Creation(sandbox)
        try:
            yield
        finally:
            self._creating.pop(sandbox.id).is_over.set()

    async def wait_created(self, sandbox_id: SandboxId) -> None:
        """Until it is not on its way any more."""
        if (created := self._creating.get(sandbox_id)) is not None:
            await created.is_over.wait()
