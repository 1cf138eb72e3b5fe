# SPDX-License-Identifier: Apache-2.0
"""Compares what is on the host with what is known, now and then, and repairs the difference both ways.

Nothing should ever be found. What is was left by a removal that could not be finished, or by somebody else's hands.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from atoll_server.clock import Clock
from atoll_server.engine.model import Limits, SandboxId, SandboxSpec
from atoll_server.engine.site import Site
from atoll_server.engine.sites import Sites
from atoll_server.engine.threads import in_thread
from atoll_server.network.egress import NetworkFailed

_log = logging.getLogger(__name__)

# What a sweep needs of a spec that nobody remembers: nothing, but the record wants one.
_FORGOTTEN: Final = SandboxSpec("", Limits(0, 0, 0), {}, "/", 0.0, 0.0, {})


class Sweeper:
    """`known`: every sandbox of which something may be on the host. `running`: those whose first process must live.

    `mourn` is told of one that does not.
    """

    def __init__(
        self,
        sites: Sites,
        *,
        known: Callable[[], Collection[SandboxId]],
        running: Callable[[], Collection[Site]],
        mourn: Callable[[SandboxId], Awaitable[object]],
    ) -> None:
        self._sites = sites
        self._known = known
        self._running = running
        self._mourn = mourn

    async def run(self, clock: Clock, every: float) -> None:
        """Look every so many seconds, for ever."""
        suspects: frozenset[str] = frozenset()
        while True:
            await clock.sleep(every)
            try:
                suspects = await self.look(suspects)
                await self.keep_networks(self._running())
            except Exception:
                # The next look may fare better, and nobody waits for this one.
                _log.exception("the host could not be compared with what is known of it")

    async def look(self, suspects: frozenset[str]) -> frozenset[str]:
        """Remove what nobody knew at the look before either; return what nobody knows.

        One look is not enough: what was there when the host was read may be known, and gone, a moment later.
        """
        unknown = await in_thread(self._sites.remains) - frozenset(self._known())
        for sandbox_id in sorted(unknown & suspects):
            await self.sweep(SandboxId(sandbox_id))
        for site in self._running():
            if not await in_thread(lambda site=site: self._sites.is_alive(site)):  # type: ignore[misc]  # bound now
                await self._mourn(site.sandbox_id)
        return unknown - suspects

    async def keep_networks(self, sites: Collection[Site], *, only_these: bool = False) -> None:
        """Have the networks of these sandboxes served. Where that fails nothing leaves them until the next look."""
        try:
            await in_thread(lambda: self._sites.keep_networks(sites, only_these=only_these))
        except NetworkFailed as error:
            _log.warning("sandboxes have no network at present: %s", error)

    async def start_network(self) -> None:
        """Have networks ready before the first sandbox asks. Where that fails, it is told, and they try again."""
        try:
            await in_thread(self._sites.start_network)
        except NetworkFailed as error:
            _log.warning("sandboxes have no network at present: %s", error)

    async def sweep(self, sandbox_id: SandboxId) -> None:
        """Remove what is left of a sandbox that nobody remembers."""
        _log.warning("removing what is left of %s, which nobody remembers", sandbox_id)
        await in_thread(lambda: self._sites.sweep(sandbox_id, _FORGOTTEN))
