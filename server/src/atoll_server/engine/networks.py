# SPDX-License-Identifier: Apache-2.0
"""The networks of sandboxes that have one, as far as the engine's clients may change and see them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from atoll_server.engine import errors
from atoll_server.engine.live import Live
from atoll_server.engine.sites import Sites
from atoll_server.engine.threads import in_thread
from atoll_server.network.control import Report
from atoll_server.network.egress import NetworkFailed
from atoll_server.network.policy import Policy

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Networks:
    """Raises `InvalidConfig` for a sandbox without a network, `Internal` where the proxy cannot be told."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    def check(self, live: Live) -> None:
        """Whether it has one at all."""
        if not self._sites.has_network(live.site):
            raise errors.InvalidConfig(
                f"sandbox {live.sandbox.id} was created without a network; create one with a network policy",
                sandbox_id=live.sandbox.id,
            )

    async def change(self, live: Live, policy: Policy) -> None:
        """Let another policy hold from now on."""
        await self._tell(lambda: self._sites.set_network(live.site, policy))

    async def report(self, live: Live) -> Report:
        """What it did with its network, and what it was refused."""
        self.check(live)
        return await self._tell(lambda: self._sites.report_network(live.site))

    async def _tell(self, work: Callable[[], T]) -> T:
        try:
            return await in_thread(work)
        except NetworkFailed as error:
            _log.warning("a network could not be kept: %s", error)
            raise errors.Internal(
                "the network of the sandbox could not be reached; nothing leaves it that should not, try again"
            ) from error
