# SPDX-License-Identifier: Apache-2.0
"""The only writer of sandbox state: creates, ends, notices deaths, keeps deadlines, recovers.

Lock order: a sandbox's `lock` is the only lock. It is held across a change of its state and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentFailure
from atoll_server.agent.messages import PROCESSES_GENERATION
from atoll_server.clock import Clock
from atoll_server.engine import errors, states
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
)
from atoll_server.engine.processes import KEEP_ENDED, KEEP_ENDED_SECONDS, OomKills
from atoll_server.engine.recover import plan_recovery
from atoll_server.engine.site import Site, Sites
from atoll_server.engine.states import Event
from atoll_server.engine.store import Store, Stored

_log = logging.getLogger(__name__)
T = TypeVar("T")

BUILDS_AT_ONCE = 8
HANDSHAKE_TIMEOUT = 20.0
# An agent that survived us listens already.
ADOPTION_TIMEOUT = 5.0
# How long a killed process may take to give its memory back before the next largest goes.
RELIEF_PAUSE = 0.05

_NO_ROOM = (errno.ENOSPC, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EDQUOT)

# What a sweep needs of a spec that nobody remembers: nothing, but the record wants one.
_FORGOTTEN = SandboxSpec("", Limits(0, 0, 0), {}, "/", 0.0, 0.0, {})


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


@dataclass(frozen=True)
class KeepProcesses:
    """How many processes that have ended an agent keeps, and for how many seconds."""

    count: int = KEEP_ENDED
    seconds: float = KEEP_ENDED_SECONDS


class Lifecycle:
    """Owns every live sandbox. Used as `async with`, so that its tasks are waited for."""

    def __init__(
        self,
        sites: Sites,
        store: Store,
        clock: Clock,
        socket_path: Callable[[SandboxId], str],
        *,
        keep: KeepProcesses = KeepProcesses(),  # a frozen record
    ) -> None:
        self._sites = sites
        self._keep = keep
        self._store = store
        self._clock = clock
        self._socket_path = socket_path
        self._live: dict[SandboxId, Live] = {}
        self._deadlines = Deadlines()
        self._deadlines_changed = asyncio.Event()
        self._builds = asyncio.Semaphore(BUILDS_AT_ONCE)
        self._creating: dict[SandboxId, asyncio.Event] = {}
        self._beside: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep deadlines and watch for deaths during the `with` block."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            expiry = tasks.create_task(self._expire())
            try:
                await self._recover()
                yield
            finally:
                expiry.cancel()
                for task in self._beside:
                    task.cancel()
                for live in self._live.values():
                    self._stop_watching(live)

    def live(self, sandbox_id: SandboxId) -> Live:
        """The sandbox if one may run commands in it, else the error that says why not."""
        live = self._live.get(sandbox_id)
        if live is None:
            raise errors.SandboxNotFound(
                f"no sandbox {sandbox_id}: unknown or terminated", sandbox_id=sandbox_id
            )
        if not states.can_exec(live.sandbox.state):
            raise _not_usable(live.sandbox)
        return live

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
            await created.wait()
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
        sandbox_id = new_sandbox_id()
        creating = Sandbox(
            sandbox_id, State.CREATING, spec, kind, isolation, created_at=self._clock.now()
        )
        self._creating[sandbox_id] = asyncio.Event()
        try:
            live = await self._start(creating)
        finally:
            self._creating.pop(sandbox_id).set()
        self._watch(live, spec.lifetime)
        return live.sandbox

    async def _start(self, creating: Sandbox) -> Live:
        """From a record to a sandbox whose agent answers."""
        async with self._builds:
            await _in_thread(lambda: self._store.put(creating, {}))
            try:
                site = await _in_thread(
                    lambda: self._sites.build(creating.id, creating.runtime, creating.spec)
                )
            except Exception as error:
                await self._record_failure(creating, error)
                raise _creation_error(error, creating.id) from error
            live = Live(creating, site, AgentClient(self._socket_path(creating.id)))
            try:
                await self._shake_hands(live)
            except Exception as error:
                await _in_thread(lambda: self._sites.remove(site))
                await self._record_failure(creating, error)
                raise errors.Internal(
                    "the sandbox did not start: its agent did not answer"
                ) from error
        await self._change(live, Event.STARTED, started_at=self._clock.now())
        self._live[creating.id] = live
        return live

    async def _shake_hands(self, live: Live) -> None:
        await live.agent.hello(HANDSHAKE_TIMEOUT)
        await self._configure(live)
        await live.agent.mkdir(os.fsencode(live.sandbox.spec.workdir), parents=True)

    async def _configure(self, live: Live) -> None:
        """Tell the agent how long to keep processes, where that is not what it does by itself."""
        if self._keep != KeepProcesses() and live.agent.generation >= PROCESSES_GENERATION:
            await live.agent.configure(
                keep_ended=self._keep.count, keep_ended_ms=round(self._keep.seconds * 1000)
            )

    async def _meet_again(self, live: Live) -> None:
        """Learn what an adopted sandbox's agent speaks, which another version of us may have brought."""
        try:
            await live.agent.hello(ADOPTION_TIMEOUT)
            await self._configure(live)
        except AgentFailure as failure:
            # It has its say with each operation; the sandbox is there, whatever its agent does.
            _log.warning("the agent of %s does not answer: %s", live.sandbox.id, failure)

    async def _record_failure(self, creating: Sandbox, error: Exception) -> None:
        _log.warning("sandbox %s could not be created: %s", creating.id, error)
        ended = dataclasses.replace(
            creating,
            state=states.next_state(creating.state, Event.ENDED),
            terminated_at=self._clock.now(),
            cause=Cause.ERROR,
            detail="it could not be created",
        )
        await _in_thread(lambda: self._store.put(ended, {}))

    async def _remove(self, live: Live, ended: Sandbox) -> None:
        """Remove the sandbox's site, then record its end: until then a restart finds and removes it again."""
        complete = await _in_thread(lambda: self._sites.remove(live.site))
        if not complete:
            _log.error("sandbox %s left something behind; the next start will sweep it", ended.id)
        await _in_thread(lambda: self._store.put(ended, {}))
        live.sandbox = ended
        self._live.pop(ended.id, None)

    async def _change(self, live: Live, event: Event, **changes: object) -> None:
        """Move a sandbox along one arrow of the table, in the store first."""
        state = states.next_state(live.sandbox.state, event)
        changed = dataclasses.replace(live.sandbox, state=state, **changes)  # type: ignore[arg-type]  # names of Sandbox
        await _in_thread(lambda: self._store.put(changed, live.site.facts()))
        live.sandbox = changed

    async def _ended_record(self, sandbox_id: SandboxId) -> Sandbox:
        stored = await _in_thread(lambda: self._store.get(sandbox_id))
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
            await _in_thread(lambda: self._sites.remove(live.site))
            await _in_thread(lambda: self._store.put(live.sandbox, live.site.facts()))

    async def _expire(self) -> None:
        """Sleep until the next deadline or a change of deadlines, for ever."""
        while True:
            self._deadlines_changed.clear()
            for sandbox_id in self._deadlines.take_due(self._clock.monotonic()):
                ending = self.terminate(sandbox_id, Cause.TIMEOUT, "its lifetime was over")
                self._tasks.create_task(self._outcome(ending))
            await self._wait_for_deadline()

    async def _wait_for_deadline(self) -> None:
        """Return when the soonest deadline is reached or deadlines have changed."""
        at = self._deadlines.next()
        async with asyncio.TaskGroup() as waiting:
            changed = waiting.create_task(self._deadlines_changed.wait())
            tasks: list[asyncio.Task[object]] = [changed]
            if at is not None:
                tasks.append(
                    waiting.create_task(self._clock.sleep(max(0.0, at - self._clock.monotonic())))
                )
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()

    async def _recover(self) -> None:
        """Adopt what still runs, end what does not, sweep what nobody remembers."""
        remembered = {
            stored.sandbox.id: stored for stored in await _in_thread(self._store.all_live)
        }
        sites = {i: self._find_site(stored) for i, stored in remembered.items()}
        alive = {i for i, site in sites.items() if self._sites.is_alive(site)}
        plan = plan_recovery(
            [(i, stored.sandbox.state) for i, stored in remembered.items()],
            alive=alive,
            remains=await _in_thread(self._sites.remains),
        )
        for sandbox_id in (*plan.adopt, *plan.lose):
            agent = AgentClient(self._socket_path(sandbox_id))
            self._live[sandbox_id] = Live(remembered[sandbox_id].sandbox, sites[sandbox_id], agent)
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
            _log.warning("removing what is left of %s, which nobody remembers", sandbox_id)
            await _in_thread(lambda i=sandbox_id: self._sites.sweep(i, _FORGOTTEN))  # type: ignore[misc]  # bound now

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


def _creation_error(error: Exception, sandbox_id: SandboxId) -> errors.EngineError:
    """What a client is told. The log has the rest."""
    if isinstance(error, errors.EngineError):
        return error
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        why = os.strerror(error.errno or 0).lower()
        return errors.ResourceExhausted(
            f"the host has no room for another sandbox: {why}", sandbox_id=sandbox_id
        )
    return errors.Internal(
        "the sandbox could not be started; see the server's log", sandbox_id=sandbox_id
    )


async def _in_thread(work: Callable[[], T]) -> T:
    """Run blocking work on a thread of its own, which ends with it: building changes its thread's namespaces.

    Cancelling the caller does not stop the thread, so whoever must not lose its result shields the call.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # None only if T allows it

    def body() -> None:
        try:
            result = work()
        except BaseException as error:
            loop.call_soon_threadsafe(finish, None, error)
        else:
            loop.call_soon_threadsafe(finish, result, None)

    threading.Thread(target=body, name="atoll-work", daemon=True).start()
    return await done
