# SPDX-License-Identifier: Apache-2.0
"""The product's verbs: the only thing that `api` and the dialects call."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from atoll_server.clock import Clock
from atoll_server.engine import commands, errors, states, trust
from atoll_server.engine.admission import Admission, AdmissionSettings
from atoll_server.engine.builder import Builder, KeepProcesses
from atoll_server.engine.chronicle import Chronicle
from atoll_server.engine.commands import ProcessDefaults, RunningCommand
from atoll_server.engine.events import EventFilter, EventLog, Reading
from atoll_server.engine.exposures import Exposures
from atoll_server.engine.files import Files
from atoll_server.engine.images import Image, Images
from atoll_server.engine.lifecycle import SWEEP_EVERY, Lifecycle
from atoll_server.engine.live import Live
from atoll_server.engine.model import (
    Cause,
    Command,
    Completed,
    ExposedPort,
    Page,
    RuntimeKind,
    Sandbox,
    SandboxFilter,
    SandboxId,
    SandboxSpec,
    Usage,
)
from atoll_server.engine.pool import ShapeStatistics
from atoll_server.engine.pool_plan import PoolSettings, Shape
from atoll_server.engine.ports import Ports
from atoll_server.engine.preview_tokens import SECRET_NAME, PreviewTokens
from atoll_server.engine.processes import KEEP_ENDED, KEEP_ENDED_SECONDS, Processes
from atoll_server.engine.site import HostPaths
from atoll_server.engine.sites import NO_NETWORKS, Sites
from atoll_server.engine.statistics import EngineStatistics
from atoll_server.engine.store import Store
from atoll_server.engine.watches import Watches
from atoll_server.network.control import Report
from atoll_server.network.egress import Egress, EgressSettings
from atoll_server.network.policy import Default, Policy
from atoll_server.runtimes.base import Runtime
from atoll_server.runtimes.cgroups import CgroupError, Cgroups
from atoll_server.runtimes.detect import Runtimes, find_runtimes

_log = logging.getLogger(__name__)

NO_RUNTIME = "no runtime on this host can isolate a sandbox, see `atoll doctor`"
NO_AGENT = "the agent is not built: run `make agent`, or install a release of atoll-server, which carries it"
AGENT_BINARY = Path(__file__).parent.parent / "_bin" / "atoll-agent"


@dataclass(frozen=True)
class EngineSettings:
    """What the engine needs to know. `run_dir` must be short: socket paths have at most 107 bytes.

    `standing` are sandboxes of which the pool holds some before anybody has asked.
    """

    state_dir: Path
    run_dir: Path
    runtime: RuntimeKind | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    output_limit: int = commands.OUTPUT_LIMIT
    keep_processes: int = KEEP_ENDED
    keep_processes_seconds: float = KEEP_ENDED_SECONDS
    private: bool = False
    admission: AdmissionSettings = AdmissionSettings()
    pool: PoolSettings = PoolSettings()
    standing: tuple[SandboxSpec, ...] = ()
    sweep_every: float = SWEEP_EVERY
    network: EgressSettings | None = None


class Engine:
    """Sandboxes and what one does in them. Made by `Engine.open`."""

    def __init__(
        self,
        settings: EngineSettings,
        lifecycle: Lifecycle,
        store: Store,
        images: Images,
        runtimes: Runtimes,
        chronicle: Chronicle,
        exposures: Exposures,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._store = store
        self._images = images
        self._runtimes = runtimes
        self._chronicle = chronicle
        self._exposures = exposures
        self._tokens = PreviewTokens(store.secret(SECRET_NAME), clock)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, settings: EngineSettings, store: Store, clock: Clock
    ) -> AsyncIterator[Engine]:
        """An engine on this host, with what survived an earlier one adopted.

        Raises `RuntimeUnavailable` where nothing could isolate a sandbox. At the end a private engine ends its
        sandboxes; any other leaves them running for the next one.
        """
        run = settings.run_dir / hashlib.sha256(bytes(settings.state_dir.resolve())).hexdigest()[:8]
        runtimes = _find_runtimes(run)
        paths = HostPaths(
            images=settings.state_dir / "images", disks=settings.state_dir / "disks", run=run
        )
        images = Images(paths.images, settings.images)
        egress = Egress(run / "network", settings.network) if settings.network else None
        sites = _prepare_sites(paths, images, runtimes.drivers, egress)
        keep = KeepProcesses(settings.keep_processes, settings.keep_processes_seconds)
        builder = Builder(sites, lambda sandbox_id: str(paths.socket(sandbox_id)), keep)
        kind = settings.runtime or next(iter(runtimes.usable))
        standing = [Shape.of(spec, kind) for spec in settings.standing if kind in runtimes.usable]
        admission = Admission(settings.admission, paths.disks)
        chronicle = Chronicle(EventLog(clock))
        exposures = Exposures(store, clock)
        lifecycle = Lifecycle(
            sites,
            builder,
            store,
            clock,
            admission=admission,
            pool=settings.pool,
            chronicle=chronicle,
            standing=standing,
            sweep_every=settings.sweep_every,
            # Without a pool the first sandbox that needs it starts it, and those that need none never do.
            starts_network=settings.pool.size > 0 and any(shape.network for shape in standing),
            on_end=exposures.forget,
        )
        async with lifecycle.running():
            await exposures.load(lambda it: lifecycle.find(it) is not None)
            try:
                yield cls(settings, lifecycle, store, images, runtimes, chronicle, exposures, clock)
            finally:
                await lifecycle.empty_pool()
                if settings.private:
                    await lifecycle.terminate_all(Cause.SHUTDOWN)
                if lifecycle.count():
                    sites.close()
                else:
                    sites.dismantle()

    def runtimes(self) -> Mapping[RuntimeKind, str]:
        """What this host offers, in the order in which `auto` takes them, with what each isolates by."""
        usable = self._runtimes.usable
        return {kind: runtime.capabilities.isolation for kind, runtime in usable.items()}

    def images(self) -> tuple[Image, ...]:
        """What sandboxes can be made of: `host` first."""
        return self._images.list()

    def sandbox_count(self) -> int:
        """How many sandboxes are not terminated."""
        return self._lifecycle.count()

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
        usable = self._runtimes.usable
        kind = spec.runtime or self._settings.runtime or next(iter(usable))
        if kind not in usable:
            offered = ", ".join(found.value for found in usable)
            raise errors.RuntimeUnavailable(
                f"this host has no runtime {kind.value!r}: {self._runtimes.faults[kind]}; it offers {offered}"
            )
        isolation = usable[kind].capabilities.isolation
        return await self._lifecycle.create(spec, kind, isolation)

    def get(self, sandbox_id: SandboxId) -> Sandbox:
        """The sandbox's record, also of one that has ended. Raises `SandboxNotFound`."""
        if (found := self._lifecycle.find(sandbox_id)) is not None:
            return found
        stored = self._store.get(sandbox_id)
        if stored is None:
            raise errors.SandboxNotFound(f"no sandbox {sandbox_id}", sandbox_id=sandbox_id)
        return stored.sandbox

    async def usage(self, sandbox_id: SandboxId) -> Usage:
        """What a sandbox uses of its host now, however busy it is. Raises `SandboxNotFound` or `SandboxFailed`."""
        return await self._lifecycle.measure(sandbox_id)

    async def usages(self, most: int) -> Sequence[tuple[Sandbox, Usage]]:
        """The same of all that run, the `most` newest if there are more."""
        return await self._lifecycle.measure_all(most)

    def statistics(self) -> EngineStatistics:
        """What was counted since the start, and which sandboxes there are."""
        return self._lifecycle.statistics()

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

    async def execute(
        self, sandbox_id: SandboxId, command: Command, *, limit: int | None = None
    ) -> Completed:
        """Run a command to its end and keep the last `limit` bytes of each stream."""
        live = self._lifecycle.live(sandbox_id)
        with self._timing(live):
            return await commands.execute(
                live.agent,
                command,
                defaults=_defaults(live),
                limit=self._settings.output_limit if limit is None else limit,
                was_oom_killed=live.site.oom_kills.was_killed,
                witness=self._chronicle.execution(live.sandbox, command),
            )

    def start(
        self, sandbox_id: SandboxId, command: Command
    ) -> AbstractAsyncContextManager[RunningCommand]:
        """Run a command and iterate over its output and its end. Leaving before the end kills its whole tree."""
        live = self._lifecycle.live(sandbox_id)
        running = commands.start(
            live.agent,
            command,
            defaults=_defaults(live),
            was_oom_killed=live.site.oom_kills.was_killed,
            witness=self._chronicle.execution(live.sandbox, command),
        )
        return self._timed(live, running)

    @contextlib.asynccontextmanager
    async def _timed(
        self, live: Live, running: AbstractAsyncContextManager[RunningCommand]
    ) -> AsyncIterator[RunningCommand]:
        with self._timing(live):
            async with running as command:
                yield command

    @contextlib.contextmanager
    def _timing(self, live: Live) -> Iterator[None]:
        """Count a command by how long it took, however it ended."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._lifecycle.tally.note_exec(live.sandbox.runtime, time.monotonic() - started)

    def processes(self, sandbox_id: SandboxId) -> Processes:
        """The processes of a sandbox. Raises `SandboxNotFound` or `SandboxNotRunning`."""
        live = self._lifecycle.live(sandbox_id)
        return Processes(
            live.agent,
            _defaults(live),
            limit=self._settings.output_limit,
            was_oom_killed=live.site.oom_kills.was_killed,
            audiences=live.audiences,
            feeds=live.feeds,
            on_start=lambda command, number, cwd: self._note_start(live, command, number, cwd),
            beside=self._lifecycle.tasks.run_beside,
        )

    def _note_start(self, live: Live, command: Command, number: int, cwd: str) -> None:
        """A process runs that nobody waits for: its end is heard of all the same."""
        execution = self._chronicle.execution(live.sandbox, command)
        execution.started(number, cwd)
        live.ends.expect(number, execution, self._lifecycle.tasks.run_beside)

    async def set_network(self, sandbox_id: SandboxId, policy: Policy) -> Sandbox:
        """Let another network policy hold from now on; what is open and no longer allowed is cut.

        Raises `InvalidConfig` for a sandbox that was created without a network, and what `files` does.
        """
        return await self._lifecycle.set_network(sandbox_id, policy)

    async def network(self, sandbox_id: SandboxId) -> tuple[Sandbox, Report]:
        """What a sandbox did with its network, and what it was refused. Raises what `set_network` does."""
        return await self._lifecycle.report_network(sandbox_id)

    def files(self, sandbox_id: SandboxId) -> Files:
        """The file operations of a sandbox. Raises `SandboxNotFound` or `SandboxNotRunning`."""
        live = self._lifecycle.live(sandbox_id)
        return Files(live.agent, live.sandbox.spec.workdir, sandbox_id)

    def watches(self, sandbox_id: SandboxId) -> Watches:
        """The watches of a sandbox. Raises `SandboxNotFound` or `SandboxNotRunning`."""
        live = self._lifecycle.live(sandbox_id)
        return Watches(live.agent, live.sandbox.spec.workdir, sandbox_id)

    def ports(self, sandbox_id: SandboxId) -> Ports:
        """The ports of a sandbox. Raises `SandboxNotFound` or `SandboxNotRunning`."""
        live = self._lifecycle.live(sandbox_id)
        return Ports(
            live.agent,
            sandbox_id,
            self._exposures,
            self._tokens,
            live.lock,
            live.streams,
            lambda: self._lifecycle.live(sandbox_id),
            live.sandbox.spec.exposable,
        )

    def preview(self, port: int, label: str, token: str | None) -> Preview | None:
        """The exposed port of this name, if it is open to whoever brings this token; why it is not stays untold."""
        exposed = self._exposures.find(port, label)
        # Always checked, so that nobody learns from the time what there is.
        is_good = self._tokens.is_good(token or "", exposed)
        if exposed is None or (exposed.is_private and not is_good):
            return None
        left = self._tokens.seconds_left(token) if token and is_good else None
        return Preview(exposed, is_good, left)


@dataclass(frozen=True)
class Preview:
    """An exposed port that the asker may use; whether the token that came with the wish is one of its own, and for how
    many seconds, if not until the port is closed.
    """

    exposed: ExposedPort
    has_token: bool
    seconds_left: int | None


def _find_runtimes(run: Path) -> Runtimes:
    if not AGENT_BINARY.exists():
        raise errors.RuntimeUnavailable(NO_AGENT)
    runtimes = find_runtimes(agent=AGENT_BINARY, run=run)
    for kind, fault in runtimes.faults.items():
        _log.warning("no sandbox can have the runtime %s: %s", kind.value, fault)
    if not runtimes.usable:
        raise errors.RuntimeUnavailable(f"{NO_RUNTIME}: {'; '.join(runtimes.faults.values())}")
    return runtimes


def _prepare_sites(
    paths: HostPaths,
    images: Images,
    runtimes: Mapping[RuntimeKind, Runtime],
    egress: Egress | None,
) -> Sites:
    try:
        sites = Sites(paths, images, runtimes, Cgroups(f"atoll/{paths.run.name}"), egress)
        sites.prepare()
    except CgroupError as error:
        raise errors.RuntimeUnavailable(f"{error}; see `atoll doctor`") from None
    except PermissionError as error:
        raise errors.RuntimeUnavailable(f"the server must run as root: {error}") from None
    return sites


def _defaults(live: Live) -> ProcessDefaults:
    spec = live.sandbox.spec
    env = {**trust.environment(spec.secrets), **spec.env}
    return ProcessDefaults(spec.workdir, env, live.sandbox.id)
