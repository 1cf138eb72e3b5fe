# SPDX-License-Identifier: Apache-2.0
"""What is written down of sandboxes and of the commands in them: one start and one end of each."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.clock import ManualClock
from atoll_server.engine import errors
from atoll_server.engine.chronicle import (
    ABANDONED,
    EXCERPT_BYTES,
    UNHEARD,
    Chronicle,
    Execution,
    cut_line,
)
from atoll_server.engine.events import EventLog
from atoll_server.engine.happenings import (
    ExecCompleted,
    ExecFailed,
    ExecStarted,
    ExecTimedOut,
    Happening,
    ProcessOutOfMemory,
    SandboxError,
    SandboxOutOfMemory,
    SandboxStarted,
    SandboxTerminated,
)
from atoll_server.engine.model import (
    Cause,
    Command,
    Exit,
    Limits,
    Output,
    ProcessId,
    RuntimeKind,
    Sandbox,
    SandboxId,
    SandboxSpec,
    State,
)

CREATED = datetime(2030, 1, 1, tzinfo=UTC)
SPEC = SandboxSpec("host", Limits(1, 256, 1024), {"SECRET": "x"}, "/w", 60.0, 60.0, {})
SANDBOX = Sandbox(
    SandboxId("sb_a"),
    State.RUNNING,
    SPEC,
    RuntimeKind.CONTAINER,
    "isolated",
    created_at=CREATED,
    started_at=CREATED + timedelta(seconds=2),
)
LOST = errors.SandboxFailed("gone")


def exit_of(**members: Any) -> Exit:
    plain = Exit(0, None, False, False, duration=0.5, stdout_bytes=0, stderr_bytes=0)
    return dataclasses.replace(plain, **members)


class Written:
    """A chronicle, and what stands in it."""

    def __init__(self) -> None:
        self.log = EventLog(ManualClock())
        self.chronicle = Chronicle(self.log)

    @property
    def all(self) -> list[Happening]:
        return [event.what for event in self.log.after(0)]

    def execution(self) -> Execution:
        return self.chronicle.execution(SANDBOX, Command("true", timeout=3.0))

    def begun(self) -> Execution:
        execution = self.execution()
        execution.started(7, "/w")
        return execution


@pytest.fixture
def written() -> Written:
    return Written()


def test_command_has_a_start_and_an_end_with_what_it_wrote(written: Written) -> None:
    execution = written.begun()
    execution.wrote(Output(1, 0, b"out"))
    execution.wrote(Output(2, 0, b"err"))
    execution.ended(exit_of(code=3))
    execution.left()

    process = ProcessId("proc_7")
    assert written.all == [
        ExecStarted(process, "true", False, cwd="/w"),
        ExecCompleted(process, "true", False, exit_of(code=3), b"out", b"err", False),
    ]


def test_end_of_long_output_is_kept(written: Written) -> None:
    execution = written.begun()
    execution.wrote(Output(1, 0, b"a" * EXCERPT_BYTES + b"end"))
    execution.ended(exit_of())

    completed = written.all[-1]
    assert isinstance(completed, ExecCompleted)
    assert completed.stdout == b"a" * (EXCERPT_BYTES - 3) + b"end"
    assert completed.is_output_cut


def test_output_that_nobody_read_is_not_said_to_be_empty(written: Written) -> None:
    written.begun().ended(exit_of(), is_output_known=False)

    completed = written.all[-1]
    assert isinstance(completed, ExecCompleted)
    assert (completed.stdout, completed.stderr) == (None, None)


def test_want_of_memory_is_told_before_the_end(written: Written) -> None:
    written.begun().ended(exit_of(code=None, signal=9, oom_killed=True))

    memory, completed = written.all[1:]
    assert isinstance(memory, ProcessOutOfMemory)
    assert memory.memory_mb == 256
    assert isinstance(completed, ExecCompleted)


def test_timeout_is_the_end_of_a_command(written: Written) -> None:
    written.begun().ended(exit_of(code=None, signal=15, timed_out=True))

    (timed_out,) = written.all[1:]
    assert isinstance(timed_out, ExecTimedOut)
    assert timed_out.timeout == 3.0


def test_command_that_is_left_has_failed(written: Written) -> None:
    execution = written.begun()
    execution.left()
    execution.failed(LOST)
    execution.ended(exit_of())

    (failed,) = written.all[1:]
    assert isinstance(failed, ExecFailed)
    assert failed.code == ABANDONED


def test_process_that_is_not_heard_of_has_one_end_too(written: Written) -> None:
    execution = written.begun()
    execution.unheard("why")
    execution.unheard("again")

    (failed,) = written.all[1:]
    assert isinstance(failed, ExecFailed)
    assert (failed.code, failed.message) == (UNHEARD, "why")


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (LOST, True),
        (errors.Internal("x"), True),
        (errors.InvalidRequest("x"), False),
        (errors.TooLarge("x"), False),
        (errors.CommandNotStarted("x", reason="not_found"), False),
    ],
)
def test_what_never_began_is_told_unless_it_was_its_clients_fault(
    written: Written, error: errors.EngineError, is_told: bool
) -> None:
    execution = written.execution()
    execution.failed(error)
    execution.left()

    assert [type(what) for what in written.all] == ([ExecFailed] if is_told else [])


def test_all_that_runs_ends_with_its_sandbox(written: Written) -> None:
    first, second = written.begun(), written.begun()
    first.ended(exit_of())
    ended = dataclasses.replace(
        SANDBOX, terminated_at=CREATED + timedelta(seconds=5), cause=Cause.TIMEOUT, detail="over"
    )

    written.chronicle.ended(ended)
    second.failed(LOST)
    second.left()

    assert [type(what) for what in written.all[3:]] == [ExecFailed, SandboxTerminated]
    assert written.all[-1] == SandboxTerminated(3.0, Cause.TIMEOUT, "over")


def test_sandbox_that_died_is_told_with_why_and_then_what_it_took_along(written: Written) -> None:
    written.begun()
    broken = dataclasses.replace(SANDBOX, detail="it ran out of memory")

    written.chronicle.broke(broken, out_of_memory=True)

    assert written.all[1:3] == [
        SandboxOutOfMemory(256),
        SandboxError("SANDBOX_FAILED", "it ran out of memory"),
    ]
    assert isinstance(written.all[3], ExecFailed)


def test_sandbox_starts_so_long_after_it_was_asked_for(written: Written) -> None:
    written.chronicle.started(SANDBOX)
    assert written.all == [SandboxStarted(2.0)]


@given(st.text(max_size=20) | st.lists(st.text(max_size=10), max_size=6).map(tuple))
def test_short_commands_are_told_as_they_are(line: str | tuple[str, ...]) -> None:
    assert cut_line(line) == (line, False)


@given(
    st.integers(EXCERPT_BYTES + 1, 3 * EXCERPT_BYTES).map("x".__mul__)
    | st.lists(st.integers(1, 2000).map("x".__mul__), min_size=3, max_size=20).map(tuple)
)
def test_long_commands_are_told_in_part_and_say_so(line: str | tuple[str, ...]) -> None:
    cut, is_cut = cut_line(line)

    assert sum(map(len, cut)) <= EXCERPT_BYTES
    assert is_cut == (cut != line)
    assert cut == line[: len(cut)] or line[len(cut) - 1].startswith(cut[-1])
