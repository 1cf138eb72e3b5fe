# SPDX-License-Identifier: Apache-2.0
"""Watches over running sandboxes: notices when the first process of one ends, and when its memory runs out.

It waits on descriptors that the kernel makes readable, with no task for a sandbox to which nothing happens.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

from atoll_server.clock import Clock
from atoll_server.engine.live import Live
from atoll_server.engine.model import SandboxId
from atoll_server.engine.threads import in_thread

_log = logging.getLogger(__name__)

# How long a killed process may take to give its memory back before the next largest goes.
RELIEF_PAUSE = 0.05

OnEvent = Callable[[Live, int], None]


class Guard:
    """`run` runs work beside everything else, and sees to its failures. `mourn` is told of a sandbox that has died."""

    def __init__(
        self,
        clock: Clock,
        *,
        run: Callable[[Coroutine[Any, Any, None]], object],
        mourn: Callable[[Live], Coroutine[Any, Any, None]],
    ) -> None:
        self._clock = clock
        self._run = run
        self._mourn = mourn
        self._watched: dict[SandboxId, list[int]] = {}
        self._relieved: set[SandboxId] = set()

    def watch(self, live: Live) -> None:
        """Notice the end of the sandbox's first process, and memory that we must get back for it."""
        assert live.site.pid is not None
        try:
            self._watch_descriptor(live, os.pidfd_open(live.site.pid), self._on_death)
        except ProcessLookupError:
            self._run(self._mourn(live))
            return
        if live.site.memory_threshold is not None:
            self._run(self._watch_memory(live, live.site.memory_threshold))

    def leave(self, sandbox_id: SandboxId) -> None:
        """Watch it no more. May be repeated."""
        for descriptor in self._watched.pop(sandbox_id, ()):
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def leave_all(self) -> None:
        """The same with every sandbox."""
        for sandbox_id in tuple(self._watched):
            self.leave(sandbox_id)

    async def _watch_memory(self, live: Live, threshold: int) -> None:
        """Beside whoever uses the sandbox already: on v1 the kernel takes 15 ms to let a group be watched."""
        group = live.site.group
        try:
            descriptor = await in_thread(lambda: group.watch_memory(threshold))
        except OSError as error:
            if live.sandbox.id in self._watched:
                raise
            _log.debug("sandbox %s ended before its memory was watched: %s", live.sandbox.id, error)
            return
        if live.sandbox.id not in self._watched:
            os.close(descriptor)
            return
        self._watch_descriptor(live, descriptor, self._on_memory)
        if group.memory_used() > threshold:
            self._begin_relief(live)

    def _watch_descriptor(self, live: Live, descriptor: int, on_event: OnEvent) -> None:
        self._watched.setdefault(live.sandbox.id, []).append(descriptor)
        asyncio.get_running_loop().add_reader(descriptor, on_event, live, descriptor)

    def _on_death(self, live: Live, _: int) -> None:
        self.leave(live.sandbox.id)
        self._run(self._mourn(live))

    def _on_memory(self, live: Live, descriptor: int) -> None:
        os.read(descriptor, 4096)
        self._begin_relief(live)

    def _begin_relief(self, live: Live) -> None:
        if live.sandbox.id not in self._relieved:
            self._relieved.add(live.sandbox.id)
            self._run(self._relieve(live))

    async def _relieve(self, live: Live) -> None:
        """Kill the largest processes of a sandbox whenever what it holds is above its threshold.

        The kernel tells of memory with caches only: as long as those alone keep it above, there is no event to wait
        for, and the group is looked at every now and then.
        """
        threshold, group = live.site.memory_threshold, live.site.group
        try:
            while threshold is not None and group.memory_used() > threshold:
                if group.memory_held() > threshold and await live.agent.kill_largest():
                    live.site.oom_kills.note_own()
                await self._clock.sleep(RELIEF_PAUSE)
        finally:
            self._relieved.discard(live.sandbox.id)
