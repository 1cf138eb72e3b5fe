# SPDX-License-Identifier: Apache-2.0
"""Processes of a sandbox that nobody has to wait for.

They live in the sandbox's agent, which keeps their records and output: there is no table of them here, and a server
that is started again finds them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal as signals
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentError, AgentFailure
from atoll_server.agent.process import AttachedProcess
from atoll_server.agent.process_input import ProcessInput
from atoll_server.engine import commands, errors
from atoll_server.engine.audience import Audiences, Follower
from atoll_server.engine.commands import (
    ProcessDefaults,
    WasOomKilled,
    judged,
    not_started,
    start_request,
)
from atoll_server.engine.failures import Failures, Kinds
from atoll_server.engine.feeds import Feeds
from atoll_server.engine.following import Following
from atoll_server.engine.ids import process_id, process_number
from atoll_server.engine.model import (
    Command,
    Exit,
    Process,
    ProcessFilter,
    ProcessId,
    ProcessPage,
    SandboxId,
    StartOptions,
    TerminalSize,
    Waited,
)
from atoll_server.engine.notes import choose_page, read_process
from atoll_server.engine.tails import Tails

KEEP_ENDED: Final = 256
KEEP_ENDED_SECONDS: Final = 3600.0
KILL_PATIENCE: Final = 30.0
REPLAY_BYTES: Final = 64 << 10

OnStart = Callable[[Command, int, str], object]

_KINDS: Final[Kinds] = {
    **commands.REFUSALS,
    "not_found": errors.ProcessNotFound,
    "stdin_closed": errors.StdinClosed,
    "slow": errors.StillRunning,
}
_MESSAGES: Final = {
    "not_found": "no process {}: unknown, or it ended too long ago",
    "stdin_closed": "process {} takes no input: start it with `stdinOpen`, or it was closed or has ended",
    "slow": "nothing of the output of process {} was taken for too long",
}


class Processes:
    """What one does with the processes of one sandbox. Nothing is kept between two calls.

    `audiences` are the sandbox's: who follows the same process elsewhere shares a connection with those here.
    `feeds` are the sandbox's too. `on_start` is told of each process that is started, with its number and directory.
    `beside` runs work that outlives the call, for as long as the server runs.
    """

    def __init__(
        self,
        agent: AgentClient,
        defaults: ProcessDefaults,
        *,
        limit: int = commands.OUTPUT_LIMIT,
        was_oom_killed: WasOomKilled | None = None,
        audiences: Audiences | None = None,
        feeds: Feeds | None = None,
        on_start: OnStart | None = None,
        beside: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._agent = agent
        self._defaults = defaults
        self._sandbox_id = defaults.sandbox_id
        self._limit = limit
        self._was_oom_killed = was_oom_killed
        self._audiences = Audiences(agent) if audiences is None else audiences
        self._feeds = Feeds(agent) if feeds is None else feeds
        self._on_start = on_start
        self._beside = beside
        self._failures = Failures(self._sandbox_id, _KINDS, _MESSAGES)

    async def start(self, command: Command, options: StartOptions) -> Process:
        """Start a process that goes on by itself. Raises `CommandNotStarted`.

        A terminal's input is always open, so what `stdin` has is typed into it, and is not its end.
        """
        is_open = options.stdin_open or options.terminal is not None
        request = start_request(
            command,
            self._defaults,
            options=options,
            detach=True,
            keep_stdin=is_open or bool(command.stdin),
        )
        try:
            async with self._agent.start(request, kill_on_leave=False) as started:
                number = started.process
        except AgentFailure as failure:
            raise not_started(failure, command, self._sandbox_id) from failure
        if self._on_start is not None:
            self._on_start(command, number, request.cwd)
        if command.stdin:
            self._feeds.begin(number)
            self._beside(self._feeds.feed(number, command.stdin, end=not is_open))
        return await self.get(process_id(number))

    async def get(self, process_id: ProcessId) -> Process:
        """A process, also one that has ended and is kept. Raises `ProcessNotFound`."""
        with self._failures.translated(process_id):
            records = await self._agent.processes(_number(process_id))
        if len(records) != 1 or records[0].number != _number(process_id):
            raise errors.SandboxFailed("the sandbox's agent answered for another process")
        return read_process(records[0])

    async def list(self, wanted: ProcessFilter) -> ProcessPage:
        """A page of processes, newest first, ended ones too."""
        with self._failures.translated():
            records = await self._agent.processes()
        return choose_page(records, wanted)

    def stream(
        self, process_id: ProcessId, *, since: int | None = 0, follow: bool = True
    ) -> Following:
        """What a process has written from position `since` on, and what it goes on to write."""
        source: AttachedProcess | Follower
        with self._failures.translated(process_id):
            if follow:
                source = self._audiences.follow(_number(process_id), since=since)
            else:
                # It only looks at what there is, and is soon gone.
                source = self._agent.attach(_number(process_id), since=since, follow=False)
        return Following(process_id, source, self._failures, self.get)

    async def attach(self, process_id: ProcessId, *, since: int | None = None) -> Session:
        """A process to talk with. Without `since` it begins with the last that is kept, at most `REPLAY_BYTES`."""
        process = await self.get(process_id)
        record = process.record
        if since is None:
            since = max(record.first_position, record.position - REPLAY_BYTES)
        return Session(self, process, self.stream(process_id, since=since))

    async def wait(self, process_id: ProcessId, timeout: float | None) -> Waited:
        """The end of a process with the newest of its output. Raises `StillRunning` after `timeout`."""
        patience = None if (await self.get(process_id)).record.has_ended else timeout
        try:
            async with asyncio.timeout(patience):
                return await self._collect(process_id)
        except TimeoutError:
            raise errors.StillRunning(
                f"process {process_id} still runs after {timeout:g} s", sandbox_id=self._sandbox_id
            ) from None

    async def signal(self, process_id: ProcessId, number: int, *, tree: bool) -> Process:
        """Signal a process or its whole tree. Raises `ProcessEnded` where nothing of it is left."""
        with self._failures.translated(process_id):
            try:
                reached = await self._agent.signal(_number(process_id), number, tree=tree)
            except AgentError as error:
                if error.code != "not_found":
                    raise
                reached = 0
        process = await self.get(process_id)
        if not reached and process.has_ended:
            raise _ended(process_id, self._sandbox_id)
        return process

    async def kill(self, process_id: ProcessId) -> Process:
        """SIGKILL to the whole tree of a process; it is over then. Repeating it is harmless."""
        try:
            async with asyncio.timeout(KILL_PATIENCE):
                async with self.stream(process_id, since=None) as following:
                    with contextlib.suppress(errors.ProcessEnded):
                        await self.signal(process_id, int(signals.SIGKILL), tree=True)
                    async for event in following:
                        if isinstance(event, Process):
                            return event
        except TimeoutError:
            pass  # said below
        raise errors.StillRunning(
            f"process {process_id} has not ended {KILL_PATIENCE:g} s after SIGKILL",
            sandbox_id=self._sandbox_id,
        )

    async def write_stdin(
        self, process_id: ProcessId, chunks: AsyncIterable[bytes], *, end: bool
    ) -> int:
        """Write to a process at its own pace, and answer how much it took. `end`: that was all there will ever be."""
        await self._feeds.wait_over(_number(process_id))
        async with self.input(process_id) as stdin:
            async for chunk in chunks:
                if not await stdin.write(chunk):
                    break
            return await stdin.finish(end=end)

    @contextlib.asynccontextmanager
    async def input(self, process_id: ProcessId) -> AsyncIterator[ProcessInput]:
        """A way into a process, for as long as the block lasts. Raises `StdinClosed` where there is none."""
        with self._failures.translated(process_id):
            async with self._agent.stdin(_number(process_id)) as stdin:
                yield stdin

    async def resize(self, process_id: ProcessId, size: TerminalSize) -> Process:
        """Change the size of a process's terminal. Raises `InvalidRequest` for one that has none."""
        process = await self.get(process_id)
        if process.record.terminal is None:
            raise errors.InvalidRequest(
                f"process {process_id} has no terminal: start it with `pty`",
                sandbox_id=self._sandbox_id,
            )
        if process.has_ended:
            raise _ended(process_id, self._sandbox_id)
        with self._failures.translated(process_id):
            await self._agent.resize(_number(process_id), size)
        return await self.get(process_id)

    async def _collect(self, process_id: ProcessId) -> Waited:
        tails = Tails(self._limit)
        with self._failures.translated(process_id):
            async with self._audiences.follow(_number(process_id), since=0) as followed:
                async for event in followed:
                    if isinstance(event, Exit):
                        exit = judged(event, _number(process_id), self._was_oom_killed)
                        completed = tails.completed(exit, is_cut=followed.dropped > 0)
                        # Asked while attached: what has a reader is the last to be forgotten.
                        return Waited(await self.get(process_id), completed)
                    tails.append(event)
        raise errors.SandboxFailed("the process's end was not reported")


class Session:
    """A process that one talks with: its output, its input, and what else one can do to it."""

    def __init__(self, processes: Processes, process: Process, output: Following) -> None:
        self.process = process
        self.output = output
        self._processes = processes

    def input(self) -> AbstractAsyncContextManager[ProcessInput]:
        """A way into the process. Raises `StdinClosed` where there is none."""
        return self._processes.input(self.process.id)

    async def resize(self, size: TerminalSize) -> None:
        await self._processes.resize(self.process.id, size)

    async def signal(self, number: int) -> None:
        with contextlib.suppress(errors.ProcessEnded):
            await self._processes.signal(self.process.id, number, tree=True)


def _number(process_id: ProcessId) -> int:
    number = process_number(process_id)
    if number is None:
        raise errors.ProcessNotFound("no process has such an id: ids look like proc_ and a number")
    return number


def _ended(process_id: ProcessId, sandbox_id: SandboxId | None) -> errors.ProcessEnded:
    return errors.ProcessEnded(f"process {process_id} has ended", sandbox_id=sandbox_id)
