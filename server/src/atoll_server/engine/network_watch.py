# SPDX-License-Identifier: Apache-2.0
"""Listens to the network proxy: passes on what it tells, and when it ends brings another up at once."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from atoll_server.clock import Clock, wait_for_news
from atoll_server.engine.site import Site
from atoll_server.engine.sites import Sites
from atoll_server.engine.threads import in_thread
from atoll_server.network.control import MAX_MESSAGE
from atoll_server.network.egress import NetworkFailed
from atoll_server.network.news import Told, read_news
from atoll_server.network.pace import Pace

FIRST_PAUSE: Final = 0.1
"""Before another proxy is started, in seconds; each that does not last doubles it."""
LONGEST_PAUSE: Final = 30.0
LASTING: Final = 60.0
"""A proxy that ran for so many seconds has not failed because of how it was started."""

# Several times what a proxy sends that is in order.
_MESSAGES_PER_SECOND = 20.0
_MESSAGES_AT_ONCE = 200.0

_log = logging.getLogger(__name__)


class NetworkWatch:
    """`running`: whose networks must be served, beside what is being built or held ready.

    `tell` gets what the proxy says, bounded, of whatever sandbox.
    """

    def __init__(
        self,
        sites: Sites,
        clock: Clock,
        *,
        running: Callable[[], Collection[Site]],
        tell: Callable[[Told], None],
    ) -> None:
        self._sites = sites
        self._clock = clock
        self._running = running
        self._tell = tell
        self._pace = Pace(clock, _MESSAGES_PER_SECOND, _MESSAGES_AT_ONCE)
        self._pause = FIRST_PAUSE
        self._started = asyncio.Event()

    async def run(self) -> None:
        """Go on for ever. Without sandboxes that want it there is no proxy, and nothing to do."""
        loop = asyncio.get_running_loop()

        def note_start() -> None:
            loop.call_soon_threadsafe(self._started.set)

        while True:
            self._started.clear()
            listening = await in_thread(lambda: self._sites.listen_to_networks(note_start))
            if listening is None:
                await self._started.wait()
                continue
            began = self._clock.monotonic()
            with listening:
                await self._listen(listening)
            if self._clock.monotonic() - began > LASTING:
                self._pause = FIRST_PAUSE
            await self._bring_back()

    async def _listen(self, listening: socket.socket) -> None:
        """Return when the proxy has ended."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                message = await loop.sock_recv(listening, MAX_MESSAGE)
            except OSError:
                return
            if not message:
                return
            self._pass_on(message)
            await self._clock.sleep(self._pace.take(1))

    def _pass_on(self, message: bytes) -> None:
        try:
            for told in read_news(message):
                self._tell(told)
        except msgspec.MsgspecError as error:
            _log.warning("the network proxy says what cannot be understood: %s", error)

    async def _bring_back(self) -> None:
        """Have the networks served again, however often that takes. Until then nothing leaves them."""
        while wanting := await self._count_wanting():
            self._started.clear()
            _log.warning("the network proxy has ended; nothing leaves %d sandboxes", wanting)
            await wait_for_news(self._clock, self._started, self._clock.monotonic() + self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            if await self._keep(self._running()):
                return

    async def _count_wanting(self) -> int:
        running = self._running()
        return await in_thread(lambda: self._sites.count_networks(running))

    async def _keep(self, sites: Collection[Site]) -> bool:
        try:
            await in_thread(lambda: self._sites.keep_networks(sites))
        except NetworkFailed as error:
            _log.warning("not all networks could be served again: %s", error)
            return False
        _log.warning("networks are served again")
        return True
