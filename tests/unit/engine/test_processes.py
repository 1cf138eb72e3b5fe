# SPDX-License-Identifier: Apache-2.0
"""Processes: what is asked of the agent, and what its answers and failures become."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.agent.frames import Kind
from atoll_server.agent.messages import GENERATION
from atoll_server.engine import errors
from atoll_server.engine.commands import ProcessDefaults
from atoll_server.engine.model import (
    Command,
    Output,
    Process,
    ProcessFilter,
    ProcessId,
    SandboxId,
    StartOptions,
    TerminalSize,
)
from atoll_server.engine.notes import Note, pack_note
from atoll_server.engine.oom import OomKills
from atoll_server.engine.processes import Processes
from tests.support.commands import execute
from tests.unit.agent.peer import EXIT, STARTED, Script, Talk, peer, say

DEFAULTS = ProcessDefaults("/work", {"A": "1"}, SandboxId("sb-1"))
ID = ProcessId("proc_7")
DONE: dict[str, Any] = {"event": "done"}
ATTACHED = {
    "event": "attached",
    "process": 7,
    "pid": 42,
    "position": 0,
    "stdout": 0,
    "stderr": 0,
    "dropped": 0,
}


def record(**fields: Any) -> dict[str, Any]:
    return {
        "process": 7,
        "pid": 42,
        "tag": None,
        "note": pack_note(Note("make", "/work", None)),
        "started_ns": 1,
        "ended_ns": None,
        "code": None,
        "signal": None,
        "timed_out": False,
        "first": 0,
        "position": 0,
        "stdout_bytes": 0,
        "stderr_bytes": 0,
        "stdin": False,
        "pty": None,
        **fields,
    }


def listed(**fields: Any) -> Script:
    return say({"event": "processes", "processes": [record(**fields)]}, DONE)


ENDED = listed(code=0, ended_ns=2)


def refusal(code: str) -> Script:
    return say({"event": "error", "code": code, "errno": 0, "message": "why"})


def processes_of(agent: AgentClient, **options: Any) -> Processes:
    def beside(work: Coroutine[Any, Any, None]) -> object:
        return asyncio.get_running_loop().create_task(work)

    return Processes(agent, DEFAULTS, beside=beside, **options)


def following(*parts: tuple[Kind, bytes], begin: dict[str, Any] = ATTACHED) -> Script:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(begin)
        offsets = {Kind.STDOUT: begin["stdout"], Kind.STDERR: begin["stderr"]}
        for kind, data in parts:
            await talk.data(kind, offsets[kind], data)
            offsets[kind] += len(data)
        await talk.say(EXIT)

    return script


async def started_with(tmp_path: Path, command: Command, options: StartOptions) -> dict[str, Any]:
    heard: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say(STARTED)

    async with peer(tmp_path, script, listed()) as agent:
        await processes_of(agent).start(command, options)
    return heard[0]


async def test_process_is_started_apart_with_all_that_was_asked_for(tmp_path: Path) -> None:
    options = StartOptions(stdin_open=True, tag="t", terminal=TerminalSize(3, 4), idle_timeout=0.25)
    request = await started_with(tmp_path, Command("make", timeout=None), options)

    assert request == {
        "op": "start",
        "generation": GENERATION,
        "shell": "make",
        "cwd": "/work",
        "make_cwd": True,
        "env": {"A": "1"},
        "user": None,
        "stdin": True,
        "timeout_ms": None,
        "grace_ms": 5000,
        "tag": "t",
        "note": pack_note(Note("make", "/work", None)),
        "keep_stdin": True,
        "pty": {"rows": 3, "cols": 4},
        "idle_ms": 250,
        "detach": True,
    }


async def test_process_without_input_has_none(tmp_path: Path) -> None:
    request = await started_with(tmp_path, Command("make"), StartOptions())
    assert (request["stdin"], request.get("keep_stdin"), request["detach"]) == (False, None, True)


@pytest.mark.parametrize(("is_open", "frames"), [(False, [b"text", b""]), (True, [b"text"])])
async def test_input_of_the_start_is_fed_beside(
    tmp_path: Path, is_open: bool, frames: list[bytes]
) -> None:
    heard: list[bytes] = []

    async def either(talk: Talk) -> None:
        request = await talk.request()
        if request["op"] == "processes":
            await talk.say({"event": "processes", "processes": [record()]})
            await talk.say(DONE)
            return
        await talk.say({"event": "ready"})
        while (frame := await talk.frame()) is not None:
            heard.append(frame.payload)
        await talk.say({**DONE, "bytes": 4})

    async with peer(tmp_path, say(STARTED), either, either) as agent:
        command = Command("cat", stdin=b"text")
        process = await processes_of(agent).start(command, StartOptions(stdin_open=is_open))

    assert process.id == ID
    assert heard == frames


async def test_program_that_is_not_there_is_not_started(tmp_path: Path) -> None:
    async with peer(tmp_path, refusal("program_not_found")) as agent:
        with pytest.raises(errors.CommandNotStarted):
            await processes_of(agent).start(Command(("x",)), StartOptions())


async def test_process_is_what_the_agent_and_the_note_say(tmp_path: Path) -> None:
    async with peer(tmp_path, listed(tag="t", pty={"rows": 1, "cols": 2})) as agent:
        process = await processes_of(agent).get(ID)

    assert (process.id, process.command, process.cwd, process.record.tag) == (
        ID,
        "make",
        "/work",
        "t",
    )
    assert process.record.terminal == TerminalSize(1, 2)


async def test_agent_that_answers_for_another_process_has_failed(tmp_path: Path) -> None:
    async with peer(tmp_path, listed(process=8)) as agent:
        with pytest.raises(errors.SandboxFailed):
            await processes_of(agent).get(ID)


@pytest.mark.parametrize(
    "fields",
    [
        {"code": 0, "signal": 9, "ended_ns": 1},
        {"code": 0},
        {"ended_ns": 1},
        {"code": 256, "ended_ns": 1},
        {"signal": 0, "ended_ns": 1},
        {"process": -1},
        {"tag": 1},
        {"note": 1},
        {"pty": {"rows": 0, "cols": 1}},
        {"position": -1},
        {"tag": "x" * 20_000},
    ],
)
async def test_record_that_cannot_be_is_a_failed_sandbox(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    async with peer(tmp_path, listed(**fields)) as agent:
        with pytest.raises(errors.SandboxFailed):
            await processes_of(agent).get(ID)


async def test_list_holds_all_batches(tmp_path: Path) -> None:
    batches = [
        {"event": "processes", "processes": [record(process=n), record(process=n + 1)]}
        for n in (1, 3)
    ]
    async with peer(tmp_path, say(*batches, DONE)) as agent:
        page = await processes_of(agent).list(ProcessFilter(limit=3))

    assert [process.id for process in page.items] == ["proc_4", "proc_3", "proc_2"]
    assert page.next == "proc_2"


async def test_stream_ends_with_the_process(tmp_path: Path) -> None:
    begin = {**ATTACHED, "position": 5, "stdout": 3, "stderr": 2, "dropped": 1}
    script = following((Kind.STDERR, b"e"), (Kind.STDOUT, b"o"), begin=begin)

    async with peer(tmp_path, script, ENDED) as agent:
        async with processes_of(agent).stream(ID, since=4) as output:
            events = [event async for event in output]

    assert (output.position, output.dropped) == (5, 1)
    assert events[:2] == [Output(2, 2, b"e"), Output(1, 3, b"o")]
    assert isinstance(events[2], Process)
    assert events[2].has_ended


@pytest.mark.parametrize(
    "frames",
    [
        [(Kind.STDOUT, 1, b"x")],
        [(Kind.CONTENT, 0, b"x")],
        [(Kind.STDOUT, 0, b"x"), (Kind.STDOUT, 0, b"x")],
    ],
    ids=["gap", "another kind", "twice"],
)
async def test_output_that_does_not_follow_is_a_failed_sandbox(
    tmp_path: Path, frames: list[tuple[Kind, int, bytes]]
) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(ATTACHED)
        for kind, offset, data in frames:
            await talk.data(kind, offset, data)

    async with peer(tmp_path, script) as agent:
        async with processes_of(agent).stream(ID) as output:
            with pytest.raises(errors.SandboxFailed):
                async for _ in output:
                    pass


async def test_position_that_is_no_sum_is_a_failed_sandbox(tmp_path: Path) -> None:
    async with peer(tmp_path, say({**ATTACHED, "position": 1})) as agent:
        with pytest.raises(errors.SandboxFailed):
            async with processes_of(agent).stream(ID):
                pass


async def test_wait_keeps_the_end_of_the_output(tmp_path: Path) -> None:
    script = following((Kind.STDOUT, b"0123456789"), (Kind.STDERR, b"e"))

    async with peer(tmp_path, ENDED, script, ENDED) as agent:
        waited = await processes_of(agent, limit=4).wait(ID, 5)

    assert (waited.completed.stdout, waited.completed.stderr) == (b"6789", b"e")
    assert waited.completed.truncated


async def test_output_dropped_before_the_wait_is_said(tmp_path: Path) -> None:
    begin = {**ATTACHED, "position": 3, "stdout": 3, "dropped": 3}

    async with peer(tmp_path, ENDED, following(begin=begin), ENDED) as agent:
        waited = await processes_of(agent).wait(ID, None)

    assert waited.completed.truncated


async def test_wait_without_an_end_gives_up(tmp_path: Path) -> None:
    async def silent(talk: Talk) -> None:
        await talk.request()
        await talk.say(ATTACHED)
        await talk.wait_closed()

    async with peer(tmp_path, listed(), silent) as agent:
        with pytest.raises(errors.StillRunning):
            await processes_of(agent).wait(ID, 0.01)


async def test_every_waiter_hears_that_memory_ran_out(tmp_path: Path) -> None:
    kills = OomKills(lambda: 1)
    killed = listed(signal=9, ended_ns=2)

    async def end(talk: Talk) -> None:
        await talk.request()
        await talk.say(ATTACHED)
        await talk.say({**EXIT, "code": None, "signal": 9})

    async with peer(tmp_path, *[killed, end, killed] * 2) as agent:
        processes = processes_of(agent, was_oom_killed=kills.was_killed)
        results = [await processes.wait(ID, 1), await processes.wait(ID, 1)]

    assert [waited.completed.exit.oom_killed for waited in results] == [True, True]


async def test_signal_to_what_has_ended_is_too_late(tmp_path: Path) -> None:
    async with peer(tmp_path, refusal("not_found"), ENDED) as agent:
        with pytest.raises(errors.ProcessEnded):
            await processes_of(agent).signal(ID, 15, tree=True)


async def test_killing_what_has_ended_is_harmless(tmp_path: Path) -> None:
    async with peer(tmp_path, following(), refusal("not_found"), ENDED, ENDED) as agent:
        assert (await processes_of(agent).kill(ID)).has_ended


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("end", "frames"), [(True, [(0, b"ab"), (2, b"c"), (3, b"")]), (False, [(0, b"ab"), (2, b"c")])]
)
async def test_input_is_written_in_order_and_ended_if_asked(
    tmp_path: Path, end: bool, frames: list[tuple[int, bytes]]
) -> None:
    heard: list[tuple[int, bytes]] = []

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say({"event": "ready"})
        while (frame := await talk.frame()) is not None:
            heard.append((frame.offset, frame.payload))
        await talk.say({**DONE, "bytes": 3})

    async with peer(tmp_path, script) as agent:
        assert await processes_of(agent).write_stdin(ID, chunks(b"ab", b"c"), end=end) == 3

    assert heard == frames


async def test_closed_input_is_said(tmp_path: Path) -> None:
    async with peer(tmp_path, refusal("stdin_closed")) as agent:
        with pytest.raises(errors.StdinClosed):
            await processes_of(agent).write_stdin(ID, chunks(b"x"), end=False)


async def test_terminal_is_resized_only_where_there_is_one(tmp_path: Path) -> None:
    size = {"rows": 2, "cols": 3}

    async with peer(tmp_path, listed(pty=size), say(DONE), listed(pty=size), listed()) as agent:
        resized = await processes_of(agent).resize(ID, TerminalSize(2, 3))
        with pytest.raises(errors.InvalidRequest):
            await processes_of(agent).resize(ID, TerminalSize(2, 3))

    assert resized.record.terminal == TerminalSize(2, 3)


@pytest.mark.parametrize(
    ("position", "first", "since"),
    [(10, 0, 0), (100_000, 0, 100_000 - 65536), (100_000, 90_000, 90_000)],
)
async def test_terminal_begins_with_the_last_that_is_kept(
    tmp_path: Path, position: int, first: int, since: int
) -> None:
    heard: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say(ATTACHED)

    async with peer(tmp_path, listed(position=position, first=first), script) as agent:
        session = await processes_of(agent).attach(ID)
        async with session.output:
            pass

    assert (heard[0]["since"], heard[0]["follow"]) == (since, True)


async def test_unknown_process_is_not_found_in_every_way(tmp_path: Path) -> None:
    async with peer(tmp_path, *[refusal("not_found")] * 2) as agent:
        processes = processes_of(agent)
        with pytest.raises(errors.ProcessNotFound):
            await processes.get(ID)
        with pytest.raises(errors.ProcessNotFound):
            async with processes.stream(ID):
                pass


async def test_agent_of_an_older_generation_is_not_asked(tmp_path: Path) -> None:
    words = {**DONE, "generation": 1, "version": "1", "pid": 1, "features": []}
    heard: list[dict[str, Any]] = []

    async def start(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say(STARTED)
        await talk.say(EXIT)

    async with peer(tmp_path, say(words), start) as agent:
        await agent.hello(1)
        with pytest.raises(errors.EngineError):
            await processes_of(agent).list(ProcessFilter())
        await execute(agent, Command("true"), defaults=DEFAULTS)

    assert heard[0]["generation"] == 1
    assert "note" not in heard[0]
