# SPDX-License-Identifier: Apache-2.0
"""Writes down in the event log what the engine does and sees, in the words of `happenings`. Decides nothing."""

from __future__ import annotations

from typing import Final

from atoll_server.engine import errors
from atoll_server.engine.events import EventLog
from atoll_server.engine.happenings import (
    ExecCompleted,
    ExecFailed,
    ExecStarted,
    ExecTimedOut,
    Happening,
    Line,
    NetworkDenied,
    NetworkEgress,
    ProcessOutOfMemory,
    SandboxCreated,
    SandboxError,
    SandboxOutOfMemory,
    SandboxStarted,
    SandboxTerminated,
)
from atoll_server.engine.ids import process_id
from atoll_server.engine.model import Cause, Command, Exit, Output, ProcessId, Sandbox, SandboxId
from atoll_server.engine.tails import Tails
from atoll_server.network.news import Denied, Told

Running = dict[SandboxId, set["Execution"]]
"""Those of which no end was told yet."""

EXCERPT_BYTES: Final = 4096
"""How much of a command's text, and of the end of each of its streams, is told."""

# Codes of their own, beside those of errors, for commands of which nobody knows how they ended.
ABANDONED: Final = "ABANDONED"
UNHEARD: Final = "UNHEARD"
# What is wrong with a request is its client's to hear, and no event.
_CLIENTS_FAULTS: Final = (errors.CommandNotStarted, errors.InvalidRequest, errors.TooLarge)


class Chronicle:
    """Tells of sandboxes: what they became, and what is run in them."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self._running: Running = {}

    def created(self, sandbox: Sandbox) -> None:
        spec = sandbox.spec
        self.log.add(sandbox.id, SandboxCreated(spec.image, sandbox.runtime, spec.limits))

    def started(self, sandbox: Sandbox) -> None:
        began = sandbox.started_at or sandbox.created_at
        startup = (began - sandbox.created_at).total_seconds()
        self.log.add(sandbox.id, SandboxStarted(max(0.0, startup)))

    def not_created(self, ended: Sandbox, error: errors.EngineError) -> None:
        """It has ended before it began."""
        self.log.add(ended.id, SandboxError(error.code, _excerpt(error.message)))
        self.ended(ended)

    def broke(self, sandbox: Sandbox, *, out_of_memory: bool) -> None:
        """It died by itself, and with it all that ran in it."""
        if out_of_memory:
            self.log.add(sandbox.id, SandboxOutOfMemory(sandbox.spec.limits.memory_mb))
        detail = sandbox.detail or "it broke"
        self.log.add(sandbox.id, SandboxError(errors.SandboxFailed.code, detail))
        self._end_all(sandbox)

    def ended(self, sandbox: Sandbox) -> None:
        self._end_all(sandbox)
        runtime = 0.0
        if sandbox.started_at is not None and sandbox.terminated_at is not None:
            runtime = (sandbox.terminated_at - sandbox.started_at).total_seconds()
        cause = sandbox.cause or Cause.ERROR
        self.log.add(sandbox.id, SandboxTerminated(max(0.0, runtime), cause, sandbox.detail))

    def execution(self, sandbox: Sandbox, command: Command) -> Execution:
        """A command that is about to run."""
        return Execution(self.log, sandbox, command, self._running)

    def network(self, sandbox_id: SandboxId, told: Told) -> None:
        """What the proxy has told of a sandbox that has not ended."""
        if isinstance(told, Denied):
            event: Happening = NetworkDenied(
                told.host, told.port, told.reason, told.text, told.count
            )
        else:
            event = NetworkEgress(
                told.host, told.port, told.connections, told.bytes_sent, told.bytes_received
            )
        self.log.add(sandbox_id, event)

    def _end_all(self, sandbox: Sandbox) -> None:
        """Nothing is told of a sandbox after its end."""
        for execution in tuple(self._running.get(sandbox.id, ())):
            execution.failed(errors.SandboxFailed("its sandbox ended before it"))


class Execution:
    """One command as it is told of: a start, then one end of whatever kind."""

    def __init__(self, log: EventLog, sandbox: Sandbox, command: Command, running: Running) -> None:
        self._log = log
        self._running = running
        self._sandbox = sandbox
        self._timeout = command.timeout
        self._process: ProcessId | None = None
        self._line, self._is_cut = cut_line(command.line)
        self._tails: Tails | None = None
        self._is_over = False

    def started(self, number: int, cwd: str) -> None:
        self._process = process_id(number)
        event = ExecStarted(self._process, self._line, self._is_cut, cwd=_excerpt(cwd))
        self._log.add(self._sandbox.id, event)
        self._running.setdefault(self._sandbox.id, set()).add(self)

    def wrote(self, output: Output) -> None:
        if self._tails is None:
            self._tails = Tails(EXCERPT_BYTES)
        self._tails.append(output)

    def ended(self, exit: Exit, *, is_output_known: bool = True) -> None:
        """Without `is_output_known`, nothing is said of what it wrote."""
        if self._is_over:
            return
        self._finish()
        if exit.timed_out:
            self._log.add(
                self._sandbox.id,
                ExecTimedOut(
                    self._process, self._line, self._is_cut, timeout=self._timeout, exit=exit
                ),
            )
            return
        if exit.oom_killed:
            memory_mb = self._sandbox.spec.limits.memory_mb
            self._log.add(
                self._sandbox.id,
                ProcessOutOfMemory(self._process, self._line, self._is_cut, memory_mb=memory_mb),
            )
        self._log.add(self._sandbox.id, self._completed(exit, is_output_known))

    def failed(self, error: errors.EngineError) -> None:
        if self._is_over or (self._process is None and isinstance(error, _CLIENTS_FAULTS)):
            return
        self._fail(error.code, error.message)

    def unheard(self, why: str) -> None:
        """How it ends will not be known."""
        if not self._is_over:
            self._fail(UNHEARD, why)

    def left(self) -> None:
        """Whoever waited for it is gone, and it is killed. No news where it had ended."""
        if not self._is_over and self._process is not None:
            self._fail(ABANDONED, "its client went away before its end; it was killed")

    def _finish(self) -> None:
        self._is_over = True
        others = self._running.get(self._sandbox.id)
        if others is not None:
            others.discard(self)
            if not others:
                del self._running[self._sandbox.id]

    def _fail(self, code: str, message: str) -> None:
        self._finish()
        event = ExecFailed(
            self._process, self._line, self._is_cut, code=code, message=_excerpt(message)
        )
        self._log.add(self._sandbox.id, event)

    def _completed(self, exit: Exit, is_output_known: bool) -> ExecCompleted:
        stdout = stderr = b"" if is_output_known else None
        is_output_cut = False
        if self._tails is not None and is_output_known:
            kept = self._tails.completed(exit)
            stdout, stderr, is_output_cut = kept.stdout, kept.stderr, kept.truncated
        return ExecCompleted(
            self._process,
            self._line,
            self._is_cut,
            exit=exit,
            stdout=stdout,
            stderr=stderr,
            is_output_cut=is_output_cut,
        )


def cut_line(line: Line) -> tuple[Line, bool]:
    """The beginning of a command's text, and whether that is not all of it."""
    if isinstance(line, str):
        return _excerpt(line), len(line) > EXCERPT_BYTES
    words: list[str] = []
    room = EXCERPT_BYTES
    for word in line:
        if room <= 0:
            break
        words.append(word[:room])
        room -= len(word) + 1
    is_cut = len(words) < len(line) or any(map(str.__ne__, words, line))
    return tuple(words), is_cut


def _excerpt(text: str) -> str:
    return text[:EXCERPT_BYTES]
