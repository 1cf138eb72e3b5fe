# SPDX-License-Identifier: Apache-2.0
"""Commands in a sandbox: run to the end with a bounded result, or followed while they run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from atoll_server.agent.client import AgentClient, AgentProcess
from atoll_server.agent.errors import AgentError, AgentFailure
from atoll_server.agent.messages import StartRequest
from atoll_server.engine import errors
from atoll_server.engine.model import Command, Completed, Exit, Output, SandboxId

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
_REQUEST_ERRORS: Final[dict[str, type[errors.EngineError]]] = {
    "invalid": errors.InvalidRequest,
    "limit": errors.TooLarge,
}
_SIGKILL: Final = 9
_SHELL_SAW_SIGKILL: Final = 128 + _SIGKILL


@dataclass(frozen=True)
class ProcessDefaults:
    """What a command takes from its sandbox where it says nothing itself."""

    workdir: str
    env: Mapping[str, str]
    sandbox_id: SandboxId | None = None


async def execute(
    agent: AgentClient,
    command: Command,
    *,
    defaults: ProcessDefaults,
    limit: int = OUTPUT_LIMIT,
    claim_oom_kill: Callable[[], bool] | None = None,
) -> Completed:
    """Run a command to its end and keep the last `limit` bytes of each stream. See `start`."""
    stdout, stderr = _Tail(limit), _Tail(limit)
    async with start(agent, command, defaults=defaults, claim_oom_kill=claim_oom_kill) as running:
        while isinstance(event := await anext(running), Output):
            (stdout if event.stream == 1 else stderr).append(event.data)
    return Completed(stdout.kept(), stderr.kept(), event, stdout.is_cut or stderr.is_cut)


def start(
    agent: AgentClient,
    command: Command,
    *,
    defaults: ProcessDefaults,
    claim_oom_kill: Callable[[], bool] | None = None,
) -> RunningCommand:
    """A command that runs inside `async with`; `async for` gives its output and at last its exit.

    Leaving before the exit kills the whole tree. `claim_oom_kill` answers whether a process of the sandbox was
    killed for want of memory that was not claimed before; it is asked only about a command that ended by SIGKILL.
    """
    return RunningCommand(agent, command, defaults, claim_oom_kill)


class RunningCommand:
    """Made by `start`. Entering raises `CommandNotStarted` where there is nothing to follow."""

    def __init__(
        self,
        agent: AgentClient,
        command: Command,
        defaults: ProcessDefaults,
        claim_oom_kill: Callable[[], bool] | None,
    ) -> None:
        self._sandbox_id = defaults.sandbox_id
        self._claim_oom_kill = claim_oom_kill
        self._command = command
        self._stdin = command.stdin
        self._process: AgentProcess = agent.start(_start_request(command, defaults))
        self._feeding: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._process.__aenter__()
        except AgentFailure as failure:
            raise _not_started(failure, self._command, self._sandbox_id) from failure
        if self._stdin:
            self._feeding = asyncio.get_running_loop().create_task(self._feed(self._stdin))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._process.__aexit__(kind, error, traceback)
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.wait((self._feeding,))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output | Exit:
        try:
            event = await self._process.__anext__()
        except AgentFailure as failure:
            raise _engine_error(failure, self._sandbox_id) from failure
        if isinstance(event, Exit) and self._was_out_of_memory(event):
            return replace(event, oom_killed=True)
        return event

    async def _feed(self, stdin: bytes) -> None:
        # A command need not read what it is given, and may be gone by now: its exit says how that went.
        with contextlib.suppress(AgentFailure):
            if await self._process.write_stdin(stdin):
                await self._process.close_stdin()

    def _was_out_of_memory(self, exit: Exit) -> bool:
        if self._claim_oom_kill is None or exit.timed_out:
            return False
        was_killed = exit.signal == _SIGKILL or exit.code == _SHELL_SAW_SIGKILL
        return was_killed and self._claim_oom_kill()


def _start_request(command: Command, defaults: ProcessDefaults) -> StartRequest:
    return StartRequest(
        program=command.line,
        cwd=_resolve(command.cwd, defaults.workdir),
        make_cwd=command.cwd is None,
        env={**defaults.env, **command.env},
        user=command.user,
        stdin=bool(command.stdin),
        timeout=command.timeout,
        grace=KILL_GRACE,
    )


def _resolve(cwd: str | None, workdir: str) -> str:
    if cwd is None:
        return workdir
    return cwd if cwd.startswith("/") else f"{workdir.rstrip('/')}/{cwd}"


def _not_started(
    failure: AgentFailure, command: Command, sandbox_id: SandboxId | None
) -> errors.EngineError:
    """What kept the command from running, with the name it is about."""
    if not isinstance(failure, AgentError) or failure.code not in _NOT_STARTED:
        return _engine_error(failure, sandbox_id)
    reason = _NOT_STARTED[failure.code]
    program = "a shell" if isinstance(command.line, str) else command.line[0]
    about = {"bad_directory": command.cwd or "the working directory", "unknown_user": command.user}
    message = f"{failure.message}: {errors.show_name(about.get(reason) or program)}"
    return errors.CommandNotStarted(message, reason=reason, sandbox_id=sandbox_id)


def _engine_error(failure: AgentFailure, sandbox_id: SandboxId | None) -> errors.EngineError:
    if not isinstance(failure, AgentError):
        return errors.SandboxFailed(str(failure), sandbox_id=sandbox_id, op="exec")
    kind = _REQUEST_ERRORS.get(failure.code, errors.Internal)
    return kind(failure.message, sandbox_id=sandbox_id, op="exec")


class _Tail:
    """The last bytes of a stream, in a ring that never outgrows its limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ring = bytearray()
        self._oldest = 0
        self.is_cut = False

    def append(self, data: bytes) -> None:
        room = self._limit - len(self._ring)
        self._ring += data[:room]
        if len(data) > room:
            self.is_cut = True
            self._overwrite(data[max(room, len(data) - self._limit) :])

    def kept(self) -> bytes:
        """What is left of the stream. Where it was cut, it begins with a whole UTF-8 character."""
        if not self.is_cut:
            return bytes(self._ring)
        view = memoryview(self._ring)
        kept = b"".join((view[self._oldest :], view[: self._oldest]))
        return kept[_continuation_bytes(kept) :]

    def _overwrite(self, data: bytes) -> None:
        fits = self._limit - self._oldest
        self._ring[self._oldest : self._oldest + len(data)] = data[:fits]
        self._ring[: len(data[fits:])] = data[fits:]
        if self._limit:
            self._oldest = (self._oldest + len(data)) % self._limit


def _continuation_bytes(text: bytes) -> int:
    """How many bytes at the beginning belong to a character that began before: at most three."""
    count = 0
    while count < min(3, len(text)) and text[count] & 0xC0 == 0x80:
        count += 1
    return count
