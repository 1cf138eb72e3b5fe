# SPDX-License-Identifier: Apache-2.0
"""What to do at start-up with what the store remembers and what the host still has. Changes no state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass

from atoll_server.agent.errors import AgentFailure
from atoll_server.engine.builder import Builder
from atoll_server.engine.live import Live
from atoll_server.engine.model import SandboxId, State
from atoll_server.engine.site import Site
from atoll_server.engine.sites import Sites
from atoll_server.engine.store import Store, Stored
from atoll_server.engine.threads import in_thread

_log = logging.getLogger(__name__)

# An agent that survived us listens already.
ADOPTION_TIMEOUT = 5.0


@dataclass(frozen=True)
class RecoveryPlan:
    """`adopt`: goes on running. `lose`: recorded as ended, its remains removed. `sweep`: remains nobody remembers."""

    adopt: tuple[SandboxId, ...]
    lose: tuple[SandboxId, ...]
    sweep: tuple[SandboxId, ...]


def plan_recovery(
    remembered: Collection[tuple[SandboxId, State]],
    *,
    alive: Collection[str],
    remains: Collection[str],
) -> RecoveryPlan:
    """Compare both ways. One that was still being created is lost: nobody ever got its id."""
    adopt = tuple(
        i for i, state in remembered if i in alive and state in (State.RUNNING, State.PAUSED)
    )
    lose = tuple(i for i, _ in remembered if i not in adopt)
    known = {i for i, _ in remembered}
    return RecoveryPlan(adopt, lose, tuple(SandboxId(i) for i in sorted(set(remains) - known)))


@dataclass(frozen=True)
class Found:
    """The same as a plan, with what there is of each sandbox."""

    adopted: tuple[Live, ...]
    lost: tuple[Live, ...]
    forgotten: tuple[SandboxId, ...]


class Recovery:
    """Finds what an earlier life of the server has left."""

    def __init__(self, sites: Sites, builder: Builder, store: Store) -> None:
        self._sites = sites
        self._builder = builder
        self._store = store

    async def find(self) -> Found:
        """Look at the store and at the host, and meet the agents of what runs."""
        remembered = {stored.sandbox.id: stored for stored in await in_thread(self._store.all_live)}
        sites = {i: self._find_site(stored) for i, stored in remembered.items()}
        plan = plan_recovery(
            [(i, stored.sandbox.state) for i, stored in remembered.items()],
            alive={i for i, site in sites.items() if self._sites.is_alive(site)},
            remains=await in_thread(self._sites.remains),
        )
        live = {
            i: Live(stored.sandbox, sites[i], self._builder.agent(i))
            for i, stored in remembered.items()
        }
        await asyncio.gather(*(self._meet_again(live[i]) for i in plan.adopt))
        return Found(
            tuple(live[i] for i in plan.adopt), tuple(live[i] for i in plan.lose), plan.sweep
        )

    async def _meet_again(self, live: Live) -> None:
        """Learn what an adopted sandbox's agent speaks, which another version of us may have brought."""
        try:
            await live.agent.hello(ADOPTION_TIMEOUT)
            await self._builder.configure(live.agent)
        except AgentFailure as failure:
            # It has its say with each operation; the sandbox is there, whatever its agent does.
            _log.warning("the agent of %s does not answer: %s", live.sandbox.id, failure)

    def _find_site(self, stored: Stored) -> Site:
        sandbox = stored.sandbox
        return self._sites.find(sandbox.id, sandbox.runtime, sandbox.spec, stored.host)
