# SPDX-License-Identifier: Apache-2.0
"""The product's verbs: the only thing that `api` and the dialects call."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from atoll_server.clock import Clock
from atoll_server.engine import commands, errors, states
from atoll_server.engine.chronicle import Chronicle
from atoll_server.engine.commands import RunningCommand
from atoll_server.engine.events import EventFilter, Reading
from atoll_server.engine.exposures import Exposures
from atoll_server.engine.files import Files
from atoll_server.engine.images import Image, Images
from atoll_server.engine.lifecycle import Lifecycle
from atoll_server.engine.live import Live
from atoll_server.engine.meter import Meter
from atoll_server.engine.model import (
    Cause,
    Command,
    Completed,
    Page,
    RuntimeKind,
    Sandbox,
    SandboxFilter,
    SandboxId,
    SandboxSpec,
    Usage,
)
from atoll_server.engine.networks import Networks
from atoll_server.engine.pool import ShapeStatistics
from atoll_server.engine.pool_plan import PoolSettings
from atoll_server.engine.ports import Ports
from atoll_server.engine.preview_tokens import SECRET_NAME, PreviewTokens
from atoll_server.engine.previews import Preview, Previews
from atoll_server.engine.processes import Processes
from atoll_server.engine.register import Register
from atoll_server.engine.settings import EngineSettings
from atoll_server.engine.sites import NO_NETWORKS, Sites
from atoll_server.engine.statistics import EngineStatistics
from atoll_server.engine.store import Store
from atoll_server.engine.watches import Watches
from atoll_server.network.control import Report
from atoll_server.network.policy import Default, Policy
from atoll_server.runtimes.detect import Runtimes


class Engine:
    """Sandboxes and what one does in them. Made by `open_engine`."""

    def __init__(
        self,
        settings: EngineSettings,
        store: Store,
        clock: Clock,
        *,
        sites: Sites,
        register: Register,
        lifecycle: Lifecycle,
        images: Images,
        runtimes: Runtimes,
        chronicle: Chronicle,
        exposures: Exposures,
    ) -> None:
        self._settings = settings
        self._register = register
        self._lifecycle = lifecycle
        self._store = store
        self._images = images
        self._runtimes = runtimes
        self._chronicle = chronicle
        self._exposures = exposures
        self._meter = Meter(sites, clock)
        self._networks = Networks(sites)
        self._tokens = PreviewTokens(store.secret(SECRET_NAME), clock)
        self._previews = Previews(exposures, self._tokens)

    def runtimes(self) -> Mapping[RuntimeKind, str]:
        """What this host offers, in the order in which `auto` takes them, with what each isolates by."""
        usable = self._runtimes.usable
        return {kind: runtime.capabilities.isolation for kind, runtime in usable.items()}

    def images(self) -> tuple[Image, ...]:
        """What sandboxes can be made of: `host` first."""
        return self._images.list()

    def sandbox_count(self) -> int:
        """How many sandboxes are not terminated."""
        return self._register.count()

    def pool(self) -> tuple[PoolSettings, tuple[ShapeStatistics, ...]]:
        """How the pool is set, and what it holds."""
        return self._lifecycle.pool.settings, self._lifecycle.pool.statistics()

    def resize_pool(self, size: int) -> None:
        """Hold so many sandboxes ready from now on, until the server ends."""
        pool = self._lifecycle.pool
        pool.resize(replace(pool.settings, size=size))

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Start a sandbox and return it `running`.

        Raises `InvalidConfig` (image), `RuntimeUnavailable`, `ResourceExhausted` or `Internal`; then nothing is left.
        """
        self._images.check(spec.image)
        if spec.network.default is not Default.NONE and self._settings.network is None:
            raise errors.RuntimeUnavailable(NO_NETWORKS)
        kind = self._choose_runtime(spec.runtime)
        isolation = self._runtimes.usable[kind].capabilities.isolation
        return await self._lifecycle.create(spec, kind, isolation)

    def get(self, sandbox_id: SandboxId) -> Sandbox:
        """The sandbox's record, also of one that has ended. Raises `SandboxNotFound`."""
        if (found := self._register.find(sandbox_id)) is not None:
            return found.sandbox
        stored = self._store.get(sandbox_id)
        if stored is None:
            raise errors.SandboxNotFound(f"no sandbox {sandbox_id}", sandbox_id=sandbox_id)
        return stored.sandbox

    async def usage(self, sandbox_id: SandboxId) -> Usage:
        """What a sandbox uses of its host now, however busy it is. Raises `SandboxNotFound` or `SandboxFailed`."""
        return await self._meter.measure(self._register.live(sandbox_id, states.can_measure))

    async def usages(self, most: int) -> Sequence[tuple[Sandbox, Usage]]:
        """The same of all that run, the `most` newest if there are more. Those that end meanwhile are left out."""
        return await self._meter.measure_each(self._register.select(states.can_measure)[-most:])

    def statistics(self) -> EngineStatistics:
        """What was counted since the start, and which sandboxes there are."""
        found = Counter((it.state, it.runtime) for it in self._register.records())
        return self._lifecycle.tally.statistics(found)

    def events(
        self, wanted: EventFilter, *, since: str | None = None, follow: bool = True
    ) -> Reading:
        """What happens, and what has happened lately after the event `since`; see `EventLog.read`.

        Raises `SandboxNotFound` where a sandbox is asked for that never was. The events of one end with it.
        """
        sandbox_id = wanted.sandbox_id
        if sandbox_id is None:
            return self._chronicle.log.read(wanted, since=since, follow=follow)
        self.get(sandbox_id)
        return self._chronicle.log.read(
            wanted,
            since=since,
            follow=follow,
            is_over=lambda: states.is_ended(self.get(sandbox_id).state),
        )

    def list(self, wanted: SandboxFilter) -> Page:
        """A page of sandboxes, newest first, ended ones too."""
        return self._store.list(wanted)

    async def terminate(self, sandbox_id: SandboxId) -> Sandbox:
        """End a sandbox for good. Repeating it is harmless. Raises `SandboxNotFound` for one that never was."""
        return await self._lifecycle.terminate(sandbox_id, Cause.USER)

    async def execute(self, sandbox_id: SandboxId, command: Command) -> Completed:
        """Run a command to its end and keep the last of each stream, as much as the settings allow."""
        async with self.start(sandbox_id, command) as running:
            return await commands.collect(running, self._settings.output_limit)

    @contextlib.asynccontextmanager
    async def start(self, sandbox_id: SandboxId, command: Command) -> AsyncIterator[RunningCommand]:
        """Run a command and iterate over its output and its end. Leaving before the end kills its whole tree."""
        live = self._register.live(sandbox_id)
        running = commands.start(
            live.agent,
            command,
            defaults=live.defaults(),
            was_oom_killed=live.site.oom_kills.was_killed,
            witness=self._chronicle.execution(live.sandbox, command),
        )
        started = time.monotonic()
        try:
            async with running:
                yield running
        finally:
            # Counted however it ended.
            self._lifecycle.tally.note_exec(live.sandbox.runtime, time.monotonic() - started)

    def processes(self, sandbox_id: SandboxId) -> Processes:
        """The processes of a sandbox. Raises `SandboxNotFound` or `SandboxNotRunning`."""
        live = self._register.live(sandbox_id)
        return Processes(
            live.agent,
            live.defaults(),
            limit=self._settings.output_limit,
            was_oom_killed=live.site.oom_kills.was_killed,
            audiences=live.audiences,
            feeds=live.feeds,
            on_start=lambda command, number, cwd: self._note_start(live, command, number, cwd),
            beside=self._lifecycle.tasks.run_beside,
        )

    async def set_network(self, sandbox_id: SandboxId, policy: Policy) -> Sandbox:
        """Let another network policy hold from now on; what is open and no longer allowed is cut.

        Raises `InvalidConfig` for a sandbox that was created without a network, and what `files` does.
        """
        return await self._lifecycle.set_network(sandbox_id, policy)

    async def network(self, sandbox_id: SandboxId) -> tuple[Sandbox, Report]:
        """What a sandbox did with its network, and what it was refused. Raises what `set_network` does."""
        live = self._register.live(sandbox_id, states.can_measure)
        report = await self._networks.report(live)
        return live.sandbox, report

    def files(self, sandbox_id: SandboxId) -> Files:
        """The file operations of a sandbox. Raises `SandboxNotFound` or `SandboxNotRunning`."""
        live = self._register.live(sandbox_id)
        return Files(live.agent, live.sandbox.spec.workdir, sandbox_id)

    def watches(self, sandbox_id: SandboxId) -> Watches:
        """The watches of a sandbox. Raises `SandboxNotFound` or `SandboxNotRunning`."""
        live = self._register.live(sandbox_id)
        return Watches(live.agent, live.sandbox.spec.workdir, sandbox_id)

    def ports(self, sandbox_id: SandboxId) -> Ports:
        """The ports of a sandbox. Raises `SandboxNotFound` or `SandboxNotRunning`."""
        live = self._register.live(sandbox_id)
        return Ports(
            live.agent,
            sandbox_id,
            self._exposures,
            self._tokens,
            live.lock,
            live.streams,
            lambda: self._register.live(sandbox_id),
            live.sandbox.spec.exposable,
        )

    def preview(self, port: int, label: str, token: str | None) -> Preview | None:
        """What the visitor of an exposed port may use, with this token or without one; see `Previews.find`."""
        return self._previews.find(port, label, token)

    def _choose_runtime(self, wanted: RuntimeKind | None) -> RuntimeKind:
        usable = self._runtimes.usable
        kind = wanted or self._settings.runtime or next(iter(usable))
        if kind not in usable:
            offered = ", ".join(found.value for found in usable)
            raise errors.RuntimeUnavailable(
                f"this host has no runtime {kind.value!r}: {self._runtimes.faults[kind]}; it offers {offered}"
            )
        return kind

    def _note_start(self, live: Live, command: Command, number: int, cwd: str) -> None:
        """A process runs that nobody waits for: its end is heard of all the same."""
        execution = self._chronicle.execution(live.sandbox, command)
        execution.started(number, cwd)
        live.ends.expect(number, execution, self._lifecycle.tasks.run_beside)
