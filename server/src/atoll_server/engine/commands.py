# SPDX-License-Identifier: Apache-2.0
"""Commands that somebody waits for: run to the end with a bounded result, or followed, and killed when left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol, Self

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentError, AgentFailure
from atoll_server.agent.messages import StartRequest
from atoll_server.agent.process import AgentProcess
from atoll_server.engine import errors
from atoll_server.engine.failures import Failures, Kinds
from atoll_server.engine.model import Command, Completed, Exit, Output, SandboxId, StartOptions
from atoll_server.engine.notes import Note, pack_note
from atoll_server.engine.tails import Tails

OUTPUT_LIMIT: Final = 10 << 20
KILL_GRACE: Final = 5.0

# How the agent says that a command could not start, and the reason we give.
_NOT_STARTED: Final = {
    "program_not_found": "not_found",
    "program_not_executable": "not_executable",
    "bad_directory": "bad_directory",
    "unknown_user": "unknown_user",
    "spawn_failed": "spawn_failed",
}
REFUSALS: Final[Kinds] = {"invalid": errors.InvalidRequest, "limit": errors.TooLarge}
"""What the agent may say no with to any command."""
WasOomKilled = Callable[[int], bool]
_NO_OPTIONS: Final = StartOptions()
_SIGKILL: Final = 9
_SHELL_SAW_SIGKILL: Final = 128 + _SIGKILL


@dataclass(frozen=True)
class ProcessDefaults:
    """What a command takes from its sandbox where it says nothing itself."""

    workdir: str
    env: Mapping[str, str]
    sandbox_id: SandboxId | None = None


class Witness(Protocol):
    """Who is told what becomes of a command. None of it may wait or raise."""

    def started(self, number: int, cwd: str) -> None: ...

    def wrote(self, output: Output) -> None: ...

    def ended(self, exit: Exit) -> None: ...

    def failed(self, error: errors.EngineError) -> None: ...

    def left(self) -> None:
        """Nobody waits for it any more, whether it has ended or not."""


def start(
    agent: AgentClient,
    command: Command,
    *,
    defaults: ProcessDefaults,
    was_oom_killed: WasOomKilled | None = None,
    witness: Witness | None = None,
) -> RunningCommand:
    """A command that runs inside `async with`; `async for` gives its output and at last its exit.

    Leaving before the exit kills the whole tree. `was_oom_killed` answers whether the process of that number was
    killed for want of memory; it is asked only about a command that ended by SIGKILL.
    """
    return RunningCommand(agent, command, defaults, was_oom_killed, witness)


async def collect(running: RunningCommand, limit: int = OUTPUT_LIMIT) -> Completed:
    """The end of a command that has begun, with the last `limit` bytes of each stream."""
    tails = Tails(limit)
    while isinstance(event := await anext(running), Output):
        tails.append(event)
    return tails.completed(event)


class RunningCommand:
    """Made by `start`. Entering raises `CommandNotStarted` where there is nothing to follow."""

    def __init__(
        self,
        agent: AgentClient,
        command: Command,
        defaults: ProcessDefaults,
        was_oom_killed: WasOomKilled | None,
        witness: Witness | None,
    ) -> None:
        self._failures = Failures(defaults.sandbox_id, REFUSALS)
        self._sandbox_id = defaults.sandbox_id
        self._was_oom_killed = was_oom_killed
        self._witness = witness or _NOBODY
        self._command = command
        self._stdin = command.stdin
        self._request = start_request(command, defaults)
        self._process: AgentProcess = agent.start(self._request)
        self._feeding: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._process.__aenter__()
        except AgentFailure as failure:
            error = not_started(failure, self._command, self._sandbox_id)
            self._witness.failed(error)
            raise error from failure
        self._witness.started(self._process.process, self._request.cwd)
        if self._stdin:
            self._feeding = asyncio.get_running_loop().create_task(self._feed(self._stdin))
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._witness.left()
        await self._process.__aexit__(*raised)
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.wait((self._feeding,))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output | Exit:
        try:
            event = await self._process.__anext__()
        except AgentFailure as failure:
            failed = self._failures.translate(failure)
            self._witness.failed(failed)
            raise failed from failure
        if isinstance(event, Output):
            self._witness.wrote(event)
            return event
        exit = judged(event, self._process.process, self._was_oom_killed)
        self._witness.ended(exit)
        return exit

    async def _feed(self, stdin: bytes) -> None:
        # A command need not read what it is given, and may be gone by now: its exit says how that went.
        with contextlib.suppress(AgentFailure):
            if await self._process.write_stdin(stdin):
                await self._process.close_stdin()


class _Nobody:
    """A witness who does not care."""

    def started(self, number: int, cwd: str) -> None: ...

    def wrote(self, output: Output) -> None: ...

    def ended(self, exit: Exit) -> None: ...

    def failed(self, error: errors.EngineError) -> None: ...

    def left(self) -> None: ...


_NOBODY: Final = _Nobody()


def judged(exit: Exit, number: int, was_oom_killed: WasOomKilled | None) -> Exit:
    """The exit of a process, with what the sandbox's control group knows of it."""
    if was_oom_killed is None or exit.timed_out:
        return exit
    was_killed = exit.signal == _SIGKILL or exit.code == _SHELL_SAW_SIGKILL
    return replace(exit, oom_killed=True) if was_killed and was_oom_killed(number) else exit


def start_request(
    command: Command,
    defaults: ProcessDefaults,
    *,
    options: StartOptions | None = None,
    detach: bool = False,
    keep_stdin: bool = False,
) -> StartRequest:
    """What the agent is asked for, and what it keeps for us."""
    options = options or _NO_OPTIONS
    cwd = _resolve(command.cwd, defaults.workdir)
    return StartRequest(
        program=command.line,
        cwd=cwd,
        make_cwd=command.cwd is None,
        env={**defaults.env, **command.env},
        user=command.user,
        stdin=keep_stdin or bool(command.stdin),
        timeout=command.timeout,
        grace=KILL_GRACE,
        note=pack_note(Note(command.line, cwd, command.user)),
        tag=options.tag,
        terminal=options.terminal,
        idle_timeout=options.idle_timeout,
        keep_stdin=keep_stdin,
        detach=detach,
    )


def _resolve(cwd: str | None, workdir: str) -> str:
    if cwd is None:
        return workdir
    return cwd if cwd.startswith("/") else f"{workdir.rstrip('/')}/{cwd}"


def not_started(
    failure: AgentFailure, command: Command, sandbox_id: SandboxId | None
) -> errors.EngineError:
    """What kept the command from running, with the name it is about."""
    if not isinstance(failure, AgentError) or failure.code not in _NOT_STARTED:
        return Failures(sandbox_id, REFUSALS).translate(failure)
    reason = _NOT_STARTED[failure.code]
    program = "a shell" if isinstance(command.line, str) else command.line[0]
    about = {"bad_directory": command.cwd or "the working directory", "unknown_user": command.user}
    message = f"{failure.message}: {errors.show_name(about.get(reason) or program)}"
    return errors.CommandNotStarted(message, reason=reason, sandbox_id=sandbox_id)
