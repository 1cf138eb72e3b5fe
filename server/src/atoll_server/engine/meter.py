# SPDX-License-Identifier: Apache-2.0
"""Measures what sandboxes use of their host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from atoll_server.clock import Clock
from atoll_server.engine import errors
from atoll_server.engine.live import Live
from atoll_server.engine.model import Sandbox, Usage
from atoll_server.engine.sites import Sites
from atoll_server.engine.threads import in_thread


class Meter:
    """Reads the host's own counters, so that it answers however busy a sandbox is."""

    def __init__(self, sites: Sites, clock: Clock) -> None:
        self._sites = sites
        self._clock = clock

    async def measure(self, live: Live) -> Usage:
        """What a sandbox uses. Raises `SandboxNotFound` for one that has just ended."""
        try:
            return await in_thread(lambda: self._measure(live))
        except FileNotFoundError:
            sandbox_id = live.sandbox.id
            raise errors.SandboxNotFound(
                f"no sandbox {sandbox_id}: it has just ended", sandbox_id=sandbox_id
            ) from None

    async def measure_each(self, standing: Sequence[Live]) -> Sequence[tuple[Sandbox, Usage]]:
        """The same of several. Those that end meanwhile are left out."""
        return await in_thread(lambda: [*self._measure_each(standing)])

    def _measure_each(self, standing: Sequence[Live]) -> Iterator[tuple[Sandbox, Usage]]:
        for live in standing:
            with contextlib.suppress(OSError):
                yield live.sandbox, self._measure(live)

    def _measure(self, live: Live) -> Usage:
        since = live.sandbox.started_at or live.sandbox.created_at
        uptime = (self._clock.now() - since).total_seconds()
        return self._sites.measure(live.site, uptime=max(0.0, uptime))
