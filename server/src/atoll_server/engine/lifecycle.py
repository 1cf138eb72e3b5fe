# SPDX-License-Identifier: Apache-2.0
"""The only writer of sandbox state: creates, ends, notices deaths, keeps deadlines, recovers.

Lock order: a sandbox's `lock` is the only lock. It is held across a change of its state or of its exposed ports, and
nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from atoll_server.clock import Clock
from atoll_server.engine import errors, states
from atoll_server.engine.admission import Admission
from atoll_server.engine.builder import Blank, Builder
from atoll_server.engine.chronicle import Chronicle
from atoll_server.engine.expiry import Deadlines
from atoll_server.engine.guard import Guard
from atoll_server.engine.ids import new_sandbox_id
from atoll_server.engine.live import Live
from atoll_server.engine.model import (
    Cause,
    Limits,
    RuntimeKind,
    Sandbox,
    SandboxId,
    SandboxSpec,
    State,
)
from atoll_server.engine.network_watch import NetworkWatch
from atoll_server.engine.networks import Networks
from atoll_server.engine.pool import Pool, read_load
from atoll_server.engine.pool_plan import PoolSettings, Shape
from atoll_server.engine.recover import Recovery
from atoll_server.engine.register import Register
from atoll_server.engine.site import Site
from atoll_server.engine.sites import Sites
from atoll_server.engine.states import Event
from atoll_server.engine.statistics import Tally
from atoll_server.engine.store import Store
from atoll_server.engine.sweeper import Sweeper
from atoll_server.engine.tasks import Tasks, outcome
from atoll_server.engine.threads import in_thread
from atoll_server.network.news import Told
from atoll_server.network.policy import Policy

_log = logging.getLogger(__name__)

BUILDS_AT_ONCE = 8
SWEEP_EVERY = 60.0


class Lifecycle:
    """Owns every live sandbox. Used as `async with`, so that its tasks are waited for."""

    def __init__(
        self,
        register: Register,
        sites: Sites,
        builder: Builder,
        store: Store,
        clock: Clock,
        *,
        admission: Admission,
        pool: PoolSettings,
        chronicle: Chronicle,
        standing: Sequence[Shape] = (),
        sweep_every: float = SWEEP_EVERY,
        starts_network: bool = False,
        on_end: Callable[[SandboxId], Awaitable[None]],
    ) -> None:
        self._register = register
        self._sites = sites
        self._builder = builder
        self._store = store
        self._clock = clock
        self._admission = admission
        self._chronicle = chronicle
        self._deadlines = Deadlines()
        self._builds = asyncio.Semaphore(BUILDS_AT_ONCE)
        self.tasks = Tasks()
        self._sweeper = Sweeper(
            sites, known=self._known, running=register.running_sites, mourn=self._on_found_dead
        )
        self._sweep_every = sweep_every
        self._starts_network = starts_network
        self._recovery = Recovery(sites, builder, store)
        self._networks = Networks(sites)
        self._network_watch = NetworkWatch(
            sites, clock, running=register.running_sites, tell=self._on_network_news
        )
        self._guard = Guard(clock, run=self.tasks.run, mourn=self._broke)
        self._on_end = on_end
        self.tally = Tally()
        self.pool = Pool(
            pool,
            clock,
            build=self._build_ahead,
            remove=builder.remove,
            load=lambda: read_load(register.creating_count()),
            standing=standing,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep deadlines, watch for deaths and fill the pool during the `with` block."""
        async with self.tasks.open():
            self.tasks.run_endless(self._deadlines.run(self._clock, self._on_due))
            try:
                await self._recover()
                if self._starts_network:
                    self.tasks.run(self._sweeper.start_network())
                self._filling = self.tasks.run_vital(self.pool.run())
                self.tasks.run_endless(self._sweeper.run(self._clock, self._sweep_every))
                self.tasks.run_endless(self._network_watch.run())
                yield
            finally:
                self.pool.close()
                self._guard.leave_all()

    async def empty_pool(self) -> None:
        """End all that was built ahead, for good."""
        self.pool.close()
        await asyncio.wait([self._filling])

    async def create(self, spec: SandboxSpec, kind: RuntimeKind, isolation: str) -> Sandbox:
        """Build a sandbox and return it running. If the caller is cancelled, it is ended as soon as it stands."""
        task = self.tasks.run(self._create(spec, kind, isolation))
        try:
            outcome = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._end_abandoned)
            raise
        if isinstance(outcome, errors.EngineError):
            raise outcome
        return outcome

    async def terminate(
        self, sandbox_id: SandboxId, cause: Cause, detail: str | None = None
    ) -> Sandbox:
        """End a sandbox and remove it from the host. Ending one that has ended returns its record."""
        await self._register.wait_created(sandbox_id)
        live = self._register.find(sandbox_id)
        if live is None:
            return await self._ended_record(sandbox_id)
        async with live.lock:
            if states.is_ended(live.sandbox.state):
                return live.sandbox
            self._guard.leave(sandbox_id)
            self._deadlines.drop(sandbox_id)
            ended = states.ended(live.sandbox, at=self._clock.now(), cause=cause, detail=detail)
            # Shielded: a caller that goes away must not leave half a sandbox behind.
            await self.tasks.complete(self._remove(live, ended))
            return live.sandbox

    async def set_network(self, sandbox_id: SandboxId, policy: Policy) -> Sandbox:
        """Let another network policy hold for a sandbox that has a network. It is kept first, then told."""
        live = self._register.live(sandbox_id, states.can_measure)
        async with live.lock:
            live = self._register.live(sandbox_id, states.can_measure)
            self._networks.check(live)
            spec = dataclasses.replace(live.sandbox.spec, network=policy)
            changed = dataclasses.replace(live.sandbox, spec=spec)
            await self._write(changed, live.site)
            live.sandbox, live.site.spec = changed, spec
            await self._networks.change(live, policy)
            return live.sandbox

    async def terminate_all(self, cause: Cause) -> None:
        """End every sandbox, several at a time."""
        everyone = self._register.select(states.is_live)
        await asyncio.gather(*(self.terminate(live.sandbox.id, cause) for live in everyone))

    async def _create(self, spec: SandboxSpec, kind: RuntimeKind, isolation: str) -> Sandbox:
        self._admit(spec.limits)
        shape = Shape.of(spec, kind)
        while (blank := self.pool.take(shape)) is not None:
            creating = self._sandbox(blank.id, spec, kind, isolation)
            try:
                async with self._register.creating(creating):
                    return await self._claim(blank, creating, is_new=True)
            except errors.Internal:
                # It or its network died at this moment, and nobody has heard of it.
                self.pool.note_death(shape)
            except errors.EngineError as error:
                self._chronicle.created(creating)
                await self._record_failure(creating, error)
                raise
        creating = self._sandbox(new_sandbox_id(), spec, kind, isolation)
        async with self._register.creating(creating), self._builds:
            return await self._start(creating)

    def _admit(self, wanted: Limits, *pooled: Limits) -> None:
        """Raises `ResourceExhausted` where the host has no room for it. What the pool holds makes way for clients."""
        self._admission.check(wanted, [*self._register.promised(), *pooled])

    def _sandbox(
        self, sandbox_id: SandboxId, spec: SandboxSpec, kind: RuntimeKind, isolation: str
    ) -> Sandbox:
        now = self._clock.now()
        return Sandbox(sandbox_id, State.CREATING, spec, kind, isolation, created_at=now)

    async def _start(self, creating: Sandbox) -> Sandbox:
        """From a record to a sandbox that runs."""
        await self._write(creating)
        self._chronicle.created(creating)
        try:
            blank = await self._builder.build(creating.id, creating.runtime, creating.spec)
            return await self._claim(blank, creating)
        except errors.EngineError as error:
            await self._record_failure(creating, error)
            raise

    async def _claim(self, blank: Blank, creating: Sandbox, *, is_new: bool = False) -> Sandbox:
        """Make a sandbox of what stands already. Where that fails, nothing of it is left."""
        live = Live(creating, blank.site, blank.agent)
        try:
            await self._builder.fit(blank, creating.spec)
            await self._change(live, Event.STARTED, started_at=self._clock.now())
        except Exception:
            await self._builder.remove(blank)
            raise
        self._register.add(live)
        self.tally.note_created(creating.runtime)
        if is_new:
            self._chronicle.created(live.sandbox)
        self._chronicle.started(live.sandbox)
        self._watch(live, creating.spec.lifetime)
        return live.sandbox

    async def _build_ahead(self, shape: Shape) -> Blank:
        spec, pooled = shape.spec(self.pool.settings.network), self.pool.limits()
        pooled.remove(spec.limits)  # what is to be built now
        self._admit(spec.limits, *pooled)
        blank = await self._builder.build(new_sandbox_id(), shape.runtime, spec)
        blank.site.rest()
        return blank

    async def _record_failure(self, creating: Sandbox, error: errors.EngineError) -> None:
        detail = "it could not be created"
        ended = states.ended(creating, at=self._clock.now(), cause=Cause.ERROR, detail=detail)
        await self._write(ended)
        self._chronicle.not_created(ended, error)

    async def _remove(self, live: Live, ended: Sandbox) -> None:
        """Remove the sandbox's site, then record its end: until then a restart finds and removes it again."""
        await self._on_end(ended.id)
        complete = await in_thread(lambda: self._sites.remove(live.site))
        if not complete:
            _log.error("sandbox %s left something behind; it will be swept", ended.id)
        await self._write(ended)
        self.tally.note_ended(ended.runtime, ended.cause or Cause.ERROR)
        live.sandbox = ended
        self._register.remove(ended.id)
        self._chronicle.ended(ended)

    async def _change(self, live: Live, event: Event, **changes: object) -> None:
        """Move a sandbox along one arrow of the table, in the store first."""
        state = states.next_state(live.sandbox.state, event)
        changed = dataclasses.replace(live.sandbox, state=state, **changes)  # type: ignore[arg-type]  # names of Sandbox
        await self._write(changed, live.site)
        live.sandbox = changed

    async def _write(self, sandbox: Sandbox, site: Site | None = None) -> None:
        """Into the store, with what is known of its place on the host, if it has one."""
        await in_thread(lambda: self._store.put(sandbox, {} if site is None else site.facts()))

    async def _ended_record(self, sandbox_id: SandboxId) -> Sandbox:
        stored = await in_thread(lambda: self._store.get(sandbox_id))
        if stored is None:
            raise errors.SandboxNotFound(f"no sandbox {sandbox_id}", sandbox_id=sandbox_id)
        return stored.sandbox

    def _end_abandoned(self, task: asyncio.Task[Sandbox | errors.EngineError]) -> None:
        """The creation's caller went away: nobody knows the sandbox, so nobody would end it."""
        if not task.cancelled() and isinstance(sandbox := task.result(), Sandbox):
            why = "the request to create it was abandoned"
            self.tasks.run(self.terminate(sandbox.id, Cause.USER, why))

    def _watch(self, live: Live, seconds_left: float) -> None:
        """Notice its death, keep its deadline, and remember what ran out of memory in it."""
        live.site.oom_kills.on_change = lambda: self.tasks.run(self._remember(live))
        self._deadlines.set(live.sandbox.id, self._clock.monotonic() + seconds_left)
        self._guard.watch(live)

    async def _broke(self, live: Live) -> None:
        """A sandbox died by itself. Its record stays, `failed`, until it is deleted or its lifetime is over."""
        async with live.lock:
            if not states.is_legal(live.sandbox.state, Event.BROKE):
                return
            out_of_memory = live.site.oom_kills.is_unexplained
            detail = "it ran out of memory" if out_of_memory else "its first process ended"
            _log.warning("sandbox %s failed: %s", live.sandbox.id, detail)
            await self._change(live, Event.BROKE, cause=Cause.ERROR, detail=detail)
            self._chronicle.broke(live.sandbox, out_of_memory=out_of_memory)
            await in_thread(lambda: self._sites.remove(live.site))
            await self._write(live.sandbox, live.site)

    async def _remember(self, live: Live) -> None:
        """Write down what is known of its place on the host now."""
        async with live.lock:
            if states.is_live(live.sandbox.state):
                await self._write(live.sandbox, live.site)

    def _known(self) -> set[SandboxId]:
        """Every sandbox of which something may be on the host."""
        return {*self._register.ids(), *self._builder.at_work, *self.pool.ids()}

    async def _on_found_dead(self, sandbox_id: SandboxId) -> None:
        if (live := self._register.find(sandbox_id)) is not None:
            self._guard.leave(sandbox_id)
            await outcome(self._broke(live))

    def _on_network_news(self, told: Told) -> None:
        if (live := self._register.find(SandboxId(told.sandbox_id))) is not None:
            self._chronicle.network(live.sandbox.id, told)

    def _on_due(self, sandbox_id: SandboxId) -> None:
        self.tasks.run(self.terminate(sandbox_id, Cause.TIMEOUT, "its lifetime was over"))

    async def _recover(self) -> None:
        """Adopt what still runs, end what does not, sweep what nobody remembers."""
        found = await self._recovery.find()
        for live in (*found.adopted, *found.lost):
            self._register.add(live)
        adopted = [live.site for live in found.adopted]
        await self._sweeper.keep_networks(adopted, only_these=True)
        for live in found.adopted:
            born = live.sandbox.started_at or live.sandbox.created_at
            age = (self._clock.now() - born).total_seconds()
            self._watch(live, live.sandbox.spec.lifetime - age)
        for live in found.lost:
            await self.terminate(live.sandbox.id, Cause.LOST, "it was gone when the server started")
        for sandbox_id in found.forgotten:
            await self._sweeper.sweep(sandbox_id)
