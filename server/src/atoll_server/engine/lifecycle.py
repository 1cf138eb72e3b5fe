# SPDX-License-Identifier: Apache-2.0
"""The only writer of sandbox state: creates, ends, notices deaths, keeps deadlines, recovers.

Lock order: a sandbox's `lock` is the only lock. It is held across a change of its state and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentFailure
from atoll_server.clock import Clock, wait_for_news
from atoll_server.engine import errors, states
from atoll_server.engine.admission import Admission
from atoll_server.engine.audience import Audiences
from atoll_server.engine.builder import Blank, Builder
from atoll_server.engine.expiry import Deadlines
from atoll_server.engine.ids import new_sandbox_id
from atoll_server.engine.model import (
    Cause,
    Limits,
    RuntimeKind,
    Sandbox,
    SandboxId,
    SandboxSpec,
    State,
    Usage,
)
from atoll_server.engine.pool import Pool, read_load
from atoll_server.engine.pool_plan import PoolSettings, Shape
from atoll_server.engine.processes import Feeds, OomKills
from atoll_server.engine.recover import plan_recovery
from atoll_server.engine.site import Site, Sites
from atoll_server.engine.states import Event
from atoll_server.engine.statistics import EngineStatistics, Tally
from atoll_server.engine.store import Store, Stored
from atoll_server.engine.sweeper import Sweeper
from atoll_server.engine.threads import in_thread

_log = logging.getLogger(__name__)
T = TypeVar("T")

BUILDS_AT_ONCE = 8
SWEEP_EVERY = 60.0
# An agent that survived us listens already.
ADOPTION_TIMEOUT = 5.0
# How long a killed process may take to give its memory back before the next largest goes.
RELIEF_PAUSE = 0.05


@dataclass
class Live:
    """A sandbox of which something exists on the host. `sandbox` is replaced at each change, never altered."""

    sandbox: Sandbox
    site: Site
    agent: AgentClient
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    watched: list[int] = field(default_factory=list)
    is_relieved: bool = False

    def __post_init__(self) -> None:
        self.oom_kills = OomKills(self.site.claim_oom_kill)
        self.audiences = Audiences(self.agent)
        self.feeds = Feeds()


@dataclass(frozen=True)
class Creation:
    """A sandbox on its way. What it was promised is not another's any more."""

    sandbox: Sandbox
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


class Lifecycle:
    """Owns every live sandbox. Used as `async with`, so that its tasks are waited for."""

    def __init__(
        self,
        sites: Sites,
        builder: Builder,
        store: Store,
        clock: Clock,
        *,
        admission: Admission,
        pool: PoolSettings,
        standing: Sequence[Shape] = (),
        sweep_every: float = SWEEP_EVERY,
    ) -> None:
        self._sites = sites
        self._builder = builder
        self._store = store
        self._clock = clock
        self._admission = admission
        self._live: dict[SandboxId, Live] = {}
        self._deadlines = Deadlines()
        self._deadlines_changed = asyncio.Event()
        self._builds = asyncio.Semaphore(BUILDS_AT_ONCE)
        self._creating: dict[SandboxId, Creation] = {}
        self._beside: set[asyncio.Task[Any]] = set()
        self._sweeper = Sweeper(
            sites, known=self._known, running=self._running_sites, mourn=self._on_found_dead
        )
        self._sweep_every = sweep_every
        self.tally = Tally()
        self.pool = Pool(
            pool,
            clock,
            build=self._build_ahead,
            remove=builder.remove,
            load=lambda: read_load(len(self._creating)),
            standing=standing,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep deadlines, watch for deaths and fill the pool during the `with` block."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            endless = [tasks.create_task(self._expire())]
            try:
                await self._recover()
                self._filling = tasks.create_task(self.pool.run())
                sweeping = tasks.create_task(self._sweeper.run(self._clock, self._sweep_every))
                endless.append(sweeping)
                yield
            finally:
                self.pool.close()
                for task in (*endless, *self._beside):
                    task.cancel()
                for live in self._live.values():
                    self._stop_watching(live)

    async def empty_pool(self) -> None:
        """End all that was built ahead, for good."""
        self.pool.close()
        await asyncio.wait([self._filling])

    def live(self, sandbox_id: SandboxId, may: Callable[[State], bool] = states.can_exec) -> Live:
        """The sandbox if one may run commands in it, or do else what `may` says; if not, the error that says why."""
        live = self._live.get(sandbox_id)
        if live is None:
            raise errors.SandboxNotFound(
                f"no sandbox {sandbox_id}: unknown or terminated", sandbox_id=sandbox_id
            )
        if not may(live.sandbox.state):
            raise _not_usable(live.sandbox)
        return live

    async def measure(self, sandbox_id: SandboxId) -> Usage:
        """What a sandbox uses of the host. Raises what `live` does."""
        live = self.live(sandbox_id, states.can_measure)
        try:
            return await in_thread(lambda: self._measure(live))
        except FileNotFoundError:
            raise errors.SandboxNotFound(
                f"no sandbox {sandbox_id}: it has just ended", sandbox_id=sandbox_id
            ) from None

    async def measure_all(self, most: int) -> Sequence[tuple[Sandbox, Usage]]:
        """The same of the `most` newest. Those that end meanwhile are left out."""
        standing = [it for it in self._live.values() if states.can_measure(it.sandbox.state)]
        return await in_thread(lambda: [*self._measure_each(standing[-most:])])

    def _measure_each(self, standing: Sequence[Live]) -> Iterator[tuple[Sandbox, Usage]]:
        for live in standing:
            with contextlib.suppress(OSError):
                yield live.sandbox, self._measure(live)

    def statistics(self) -> EngineStatistics:
        """What was counted since the start, and which sandboxes there are."""
        records = [creation.sandbox for creation in self._creating.values()]
        records += [live.sandbox for live in self._live.values()]
        return self.tally.statistics(Counter((it.state, it.runtime) for it in records))

    def _measure(self, live: Live) -> Usage:
        since = live.sandbox.started_at or live.sandbox.created_at
        uptime = (self._clock.now() - since).total_seconds()
        return self._sites.measure(live.site, uptime=max(0.0, uptime))

    def run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work that outlives its request, until it is done or the server ends."""
        task = self._tasks.create_task(self._outcome(work))
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def find(self, sandbox_id: SandboxId) -> Sandbox | None:
        """The record of a sandbox that is not terminated."""
        live = self._live.get(sandbox_id)
        return live.sandbox if live else None

    def count(self) -> int:
        """How many sandboxes are not terminated."""
        return len(self._live)

    async def create(self, spec: SandboxSpec, kind: RuntimeKind, isolation: str) -> Sandbox:
        """Build a sandbox and return it running. If the caller is cancelled, it is ended as soon as it stands."""
        task = self._tasks.create_task(self._outcome(self._create(spec, kind, isolation)))
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
        if (created := self._creating.get(sandbox_id)) is not None:
            await created.is_over.wait()
        live = self._live.get(sandbox_id)
        if live is None:
            return await self._ended_record(sandbox_id)
        async with live.lock:
            if states.is_ended(live.sandbox.state):
                return live.sandbox
            self._stop_watching(live)
            self._deadlines.drop(sandbox_id)
            ended = dataclasses.replace(
                live.sandbox,
                state=states.next_state(live.sandbox.state, Event.ENDED),
                terminated_at=self._clock.now(),
                cause=live.sandbox.cause or cause,
                detail=live.sandbox.detail or detail,
            )
            # Shielded: a caller that goes away must not leave half a sandbox behind.
            await asyncio.shield(self._tasks.create_task(self._remove(live, ended)))
            return live.sandbox

    async def terminate_all(self, cause: Cause) -> None:
        """End every sandbox, several at a time."""
        await asyncio.gather(
            *(self.terminate(sandbox_id, cause) for sandbox_id in tuple(self._live))
        )

    async def _create(self, spec: SandboxSpec, kind: RuntimeKind, isolation: str) -> Sandbox:
        self._admit(spec.limits)
        shape = Shape.of(spec, kind)
        while (blank := self.pool.take(shape)) is not None:
            creating = self._sandbox(blank.id, spec, kind, isolation)
            try:
                async with self._being_created(creating):
                    return await self._claim(blank, creating)
            except errors.Internal:
                # It died at this moment, and nobody has heard of it.
                self.pool.note_death(shape)
            except errors.EngineError:
                await self._record_failure(creating)
                raise
        creating = self._sandbox(new_sandbox_id(), spec, kind, isolation)
        async with self._being_created(creating), self._builds:
            return await self._start(creating)

    def _admit(self, wanted: Limits, *pooled: Limits) -> None:
        """Raises `ResourceExhausted` where the host has no room for it. What the pool holds makes way for clients."""
        standing = (it.sandbox for it in self._live.values() if states.holds_room(it.sandbox.state))
        promised = [sandbox.spec.limits for sandbox in standing]
        promised += [creation.sandbox.spec.limits for creation in self._creating.values()]
        self._admission.check(wanted, [*promised, *pooled])

    def _sandbox(
        self, sandbox_id: SandboxId, spec: SandboxSpec, kind: RuntimeKind, isolation: str
    ) -> Sandbox:
        now = self._clock.now()
        return Sandbox(sandbox_id, State.CREATING, spec, kind, isolation, created_at=now)

    @contextlib.asynccontextmanager
    async def _being_created(self, creating: Sandbox) -> AsyncIterator[None]:
        """Whoever ends a sandbox in this block waits for the end of the block."""
        self._creating[creating.id] = Creation(creating)
        try:
            yield
        finally:
            self._creating.pop(creating.id).is_over.set()

    async def _start(self, creating: Sandbox) -> Sandbox:
        """From a record to a sandbox that runs."""
        await in_thread(lambda: self._store.put(creating, {}))
        try:
            blank = await self._builder.build(creating.id, creating.runtime, creating.spec)
            return await self._claim(blank, creating)
        except errors.EngineError:
            await self._record_failure(creating)
            raise

    async def _claim(self, blank: Blank, creating: Sandbox) -> Sandbox:
        """Make a sandbox of what stands already. Where that fails, nothing of it is left."""
        live = Live(creating, blank.site, blank.agent)
        try:
            await self._builder.fit(blank, creating.spec)
            await self._change(live, Event.STARTED, started_at=self._clock.now())
        except Exception:
            await self._builder.remove(blank)
            raise
        self._live[creating.id] = live
        self.tally.note_created(creating.runtime)
        self._watch(live, creating.spec.lifetime)
        return live.sandbox

    async def _build_ahead(self, shape: Shape) -> Blank:
        spec, pooled = shape.spec(), self.pool.limits()
        pooled.remove(spec.limits)  # what is to be built now
        self._admit(spec.limits, *pooled)
        return await self._builder.build(new_sandbox_id(), shape.runtime, spec)

    async def _meet_again(self, live: Live) -> None:
        """Learn what an adopted sandbox's agent speaks, which another version of us may have brought."""
        try:
            await live.agent.hello(ADOPTION_TIMEOUT)
            await self._builder.configure(live.agent)
        except AgentFailure as failure:
            # It has its say with each operation; the sandbox is there, whatever its agent does.
            _log.warning("the agent of %s does not answer: %s", live.sandbox.id, failure)

    async def _record_failure(self, creating: Sandbox) -> None:
        ended = dataclasses.replace(
            creating,
            state=states.next_state(creating.state, Event.ENDED),
            terminated_at=self._clock.now(),
            cause=Cause.ERROR,
            detail="it could not be created",
        )
        await in_thread(lambda: self._store.put(ended, {}))

    async def _remove(self, live: Live, ended: Sandbox) -> None:
        """Remove the sandbox's site, then record its end: until then a restart finds and removes it again."""
        complete = await in_thread(lambda: self._sites.remove(live.site))
        if not complete:
            _log.error("sandbox %s left something behind; it will be swept", ended.id)
        await in_thread(lambda: self._store.put(ended, {}))
        self.tally.note_ended(ended.runtime, ended.cause or Cause.ERROR)
        live.sandbox = ended
        self._live.pop(ended.id, None)

    async def _change(self, live: Live, event: Event, **changes: object) -> None:
        """Move a sandbox along one arrow of the table, in the store first."""
        state = states.next_state(live.sandbox.state, event)
        changed = dataclasses.replace(live.sandbox, state=state, **changes)  # type: ignore[arg-type]  # names of Sandbox
        await in_thread(lambda: self._store.put(changed, live.site.facts()))
        live.sandbox = changed

    async def _ended_record(self, sandbox_id: SandboxId) -> Sandbox:
        stored = await in_thread(lambda: self._store.get(sandbox_id))
        if stored is None:
            raise errors.SandboxNotFound(f"no sandbox {sandbox_id}", sandbox_id=sandbox_id)
        return stored.sandbox

    def _end_abandoned(self, task: asyncio.Task[Sandbox | errors.EngineError]) -> None:
        """The creation's caller went away: nobody knows the sandbox, so nobody would end it."""
        if not task.cancelled() and isinstance(sandbox := task.result(), Sandbox):
            ending = self.terminate(
                sandbox.id, Cause.USER, "the request to create it was abandoned"
            )
            self._tasks.create_task(self._outcome(ending))

    async def _outcome(self, work: Awaitable[T]) -> T | errors.EngineError:
        """Errors as values: a task of the group that raised would take the group, and the server, down."""
        try:
            return await work
        except errors.EngineError as error:
            return error
        except Exception:
            _log.exception("a lifecycle task failed")
            return errors.Internal("something went wrong; see the server's log")

    def _watch(self, live: Live, seconds_left: float) -> None:
        """Notice the end of the sandbox's first process, and keep its deadline."""
        self._deadlines.set(live.sandbox.id, self._clock.monotonic() + seconds_left)
        self._deadlines_changed.set()
        assert live.site.pid is not None
        try:
            self._watch_descriptor(live, os.pidfd_open(live.site.pid), self._on_death)
        except ProcessLookupError:
            self._tasks.create_task(self._outcome(self._broke(live)))
            return
        threshold = live.site.memory_threshold
        if threshold is not None:
            self._watch_descriptor(live, live.site.group.watch_memory(threshold), self._on_memory)

    def _watch_descriptor(
        self, live: Live, descriptor: int, on_event: Callable[[Live, int], None]
    ) -> None:
        live.watched.append(descriptor)
        asyncio.get_running_loop().add_reader(descriptor, on_event, live, descriptor)

    def _on_death(self, live: Live, _: int) -> None:
        self._stop_watching(live)
        self._tasks.create_task(self._outcome(self._broke(live)))

    def _on_memory(self, live: Live, descriptor: int) -> None:
        os.read(descriptor, 4096)
        if not live.is_relieved:
            live.is_relieved = True
            self._tasks.create_task(self._outcome(self._relieve(live)))

    async def _relieve(self, live: Live) -> None:
        """Kill the largest processes of a sandbox whenever what it holds is above its threshold.

        The kernel tells of memory with caches only: as long as those alone keep it above, there is no event to wait
        for, and the group is looked at every now and then.
        """
        threshold, group = live.site.memory_threshold, live.site.group
        try:
            while threshold is not None and group.memory_used() > threshold:
                if group.memory_held() > threshold and await live.agent.kill_largest():
                    live.site.own_oom_kills += 1
                await self._clock.sleep(RELIEF_PAUSE)
        finally:
            live.is_relieved = False

    def _stop_watching(self, live: Live) -> None:
        for descriptor in live.watched:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        live.watched.clear()

    async def _broke(self, live: Live) -> None:
        """A sandbox died by itself. Its record stays, `failed`, until it is deleted or its lifetime is over."""
        async with live.lock:
            if live.sandbox.state not in (State.RUNNING, State.PAUSED):
                return
            detail = (
                "it ran out of memory" if live.site.group.oom_kills() else "its first process ended"
            )
            _log.warning("sandbox %s failed: %s", live.sandbox.id, detail)
            await self._change(live, Event.BROKE, cause=Cause.ERROR, detail=detail)
            await in_thread(lambda: self._sites.remove(live.site))
            await in_thread(lambda: self._store.put(live.sandbox, live.site.facts()))

    def _known(self) -> set[SandboxId]:
        """Every sandbox of which something may be on the host."""
        return {*self._live, *self._creating, *self._builder.at_work, *self.pool.ids()}

    def _running_sites(self) -> list[Site]:
        return [it.site for it in self._live.values() if states.holds_room(it.sandbox.state)]

    async def _on_found_dead(self, sandbox_id: SandboxId) -> None:
        if (live := self._live.get(sandbox_id)) is not None:
            self._stop_watching(live)
            await self._outcome(self._broke(live))

    async def _expire(self) -> None:
        """Sleep until the next deadline or a change of deadlines, for ever."""
        while True:
            self._deadlines_changed.clear()
            for sandbox_id in self._deadlines.take_due(self._clock.monotonic()):
                ending = self.terminate(sandbox_id, Cause.TIMEOUT, "its lifetime was over")
                self._tasks.create_task(self._outcome(ending))
            await wait_for_news(self._clock, self._deadlines_changed, self._deadlines.next())

    async def _recover(self) -> None:
        """Adopt what still runs, end what does not, sweep what nobody remembers."""
        remembered = {stored.sandbox.id: stored for stored in await in_thread(self._store.all_live)}
        sites = {i: self._find_site(stored) for i, stored in remembered.items()}
        alive = {i for i, site in sites.items() if self._sites.is_alive(site)}
        plan = plan_recovery(
            [(i, stored.sandbox.state) for i, stored in remembered.items()],
            alive=alive,
            remains=await in_thread(self._sites.remains),
        )
        for sandbox_id in (*plan.adopt, *plan.lose):
            sandbox, agent = remembered[sandbox_id].sandbox, self._builder.agent(sandbox_id)
            self._live[sandbox_id] = Live(sandbox, sites[sandbox_id], agent)
        await asyncio.gather(*(self._meet_again(self._live[i]) for i in plan.adopt))
        for sandbox_id in plan.adopt:
            live = self._live[sandbox_id]
            age = (
                self._clock.now() - (live.sandbox.started_at or live.sandbox.created_at)
            ).total_seconds()
            self._watch(live, live.sandbox.spec.lifetime - age)
        for sandbox_id in plan.lose:
            await self.terminate(sandbox_id, Cause.LOST, "it was gone when the server started")
        for sandbox_id in plan.sweep:
            await self._sweeper.sweep(sandbox_id)

    def _find_site(self, stored: Stored) -> Site:
        sandbox = stored.sandbox
        return self._sites.find(sandbox.id, sandbox.runtime, sandbox.spec, stored.host)


def _not_usable(sandbox: Sandbox) -> errors.EngineError:
    if sandbox.state is State.FAILED:
        detail = sandbox.detail or "it broke"
        return errors.SandboxFailed(
            f"sandbox {sandbox.id} has failed: {detail}", sandbox_id=sandbox.id
        )
    return errors.SandboxNotRunning(
        f"sandbox {sandbox.id} is {sandbox.state.value}", sandbox_id=sandbox.id
    )
