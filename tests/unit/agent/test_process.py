# SPDX-License-Identifier: Apache-2.0
"""A process of an agent that keeps, bends and breaks the protocol."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from atoll_server.agent import process as process_module
from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentError, AgentProtocolError, AgentUnavailable
from atoll_server.agent.frames import MAX_DATA_BYTES, Frame, Kind, encode_control, encode_frame
from atoll_server.agent.messages import StartRequest
from atoll_server.agent.process import STARTS_AT_ONCE
from atoll_server.engine.model import Exit, Output
from tests.unit.agent.peer import EXIT, STARTED, Talk, peer, say, send

TRUE = StartRequest(program=("true",), cwd="/")


async def run(agent: AgentClient, request: StartRequest = TRUE) -> list[Output | Exit]:
    async with agent.start(request) as process:
        return [event async for event in process]


async def test_starts_beyond_the_bound_wait_until_one_is_answered(tmp_path: Path) -> None:
    heard, full, go = 0, asyncio.Event(), asyncio.Event()

    async def answer_late(talk: Talk) -> None:
        nonlocal heard
        await talk.request()
        heard += 1
        if heard == STARTS_AT_ONCE:
            full.set()
        await go.wait()
        await talk.say(STARTED)
        await talk.say(EXIT)

    async with peer(tmp_path, *[answer_late] * (STARTS_AT_ONCE + 8)) as agent:
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(run(agent)) for _ in range(STARTS_AT_ONCE + 8)]
            await full.wait()
            for _ in range(100):
                await asyncio.sleep(0)
            heard_before = heard
            go.set()

    assert heard_before == STARTS_AT_ONCE
    assert all(len(ended.result()) == 1 for ended in runs)


async def test_process_gives_its_output_and_then_its_exit(tmp_path: Path) -> None:
    async def script(talk: Talk) -> None:
        assert (await talk.request())["argv"] == ["true"]
        await talk.say(STARTED)
        await talk.data(Kind.STDOUT, 0, b"ab")
        await talk.data(Kind.STDERR, 0, b"x")
        await talk.data(Kind.STDOUT, 2, b"c")
        await talk.say({**EXIT, "code": None, "signal": 9, "stdout_bytes": 3, "stderr_bytes": 1})

    async with peer(tmp_path, script) as agent, agent.start(TRUE) as process:
        events = [event async for event in process]
        ids = (process.process, process.pid)

    assert ids == (7, 42)
    assert events == [
        Output(1, 0, b"ab"),
        Output(2, 0, b"x"),
        Output(1, 2, b"c"),
        Exit(None, 9, False, False, 0.0015, 3, 1),
    ]


async def test_request_says_all_that_was_asked_for(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say(STARTED)
        await talk.say(EXIT)

    request = StartRequest(
        program="echo \udcff",
        cwd="/w",
        make_cwd=True,
        env={"A": "ä", "B": "\udc80"},
        user="user",
        stdin=True,
        timeout=1.5,
        grace=2.0,
    )
    async with peer(tmp_path, script) as agent:
        await run(agent, request)

    assert heard == [
        {
            "op": "start",
            "generation": 4,
            "shell": b"echo \xff",
            "cwd": "/w",
            "make_cwd": True,
            "env": {"A": "ä", "B": b"\x80"},
            "user": "user",
            "stdin": True,
            "timeout_ms": 1500,
            "grace_ms": 2000,
        }
    ]


async def test_no_of_the_agent_is_an_error_with_its_code(tmp_path: Path) -> None:
    refusal = {"event": "error", "code": "program_not_found", "errno": 2, "message": "no\x1b[0m"}

    async with peer(tmp_path, say(refusal)) as agent:
        with pytest.raises(AgentError) as raised:
            await run(agent)

    assert (raised.value.code, raised.value.errno) == ("program_not_found", 2)
    assert raised.value.message == "no�[0m"


async def test_stdin_arrives_in_order_and_ends(tmp_path: Path) -> None:
    got: list[Frame | None] = []

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(STARTED)
        while got[-1:] != [Frame(Kind.STDIN, MAX_DATA_BYTES + 3, b"")]:
            got.append(await talk.frame())
        await talk.say(EXIT)

    async with peer(tmp_path, script) as agent, agent.start(TRUE) as process:
        assert await process.write_stdin(b"a" * MAX_DATA_BYTES + b"bcd")
        await process.close_stdin()
        assert isinstance(await anext(process), Exit)

    assert got[:2] == [
        Frame(Kind.STDIN, 0, b"a" * MAX_DATA_BYTES),
        Frame(Kind.STDIN, MAX_DATA_BYTES, b"bcd"),
    ]


async def test_stdin_nobody_takes_any_more_is_no_error(tmp_path: Path) -> None:
    async with peer(tmp_path, say(STARTED, EXIT)) as agent, agent.start(TRUE) as process:
        assert isinstance(await anext(process), Exit)
        assert not await process.write_stdin(b"x" * (4 << 20))


async def test_leaving_early_kills_the_tree_on_a_connection_of_its_own(tmp_path: Path) -> None:
    killed: list[dict[str, Any]] = []

    async def running(talk: Talk) -> None:
        await talk.request()
        await talk.say(STARTED)
        await talk.wait_closed()

    async def killing(talk: Talk) -> None:
        killed.append(await talk.request())

    async with peer(tmp_path, running, killing) as agent:
        async with agent.start(TRUE):
            pass

    assert killed == [{"op": "signal", "generation": 4, "process": 7, "signal": 9, "tree": True}]


async def test_leaving_after_the_exit_kills_nothing(tmp_path: Path) -> None:
    async with peer(tmp_path, say(STARTED, EXIT)) as agent:
        assert len(await run(agent)) == 1


async def test_process_may_be_left_running(tmp_path: Path) -> None:
    async with peer(tmp_path, say(STARTED)) as agent:
        async with agent.start(TRUE, kill_on_leave=False):
            pass


async def test_cancelled_start_still_kills_what_it_started(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    is_asked = asyncio.Event()
    is_cancelled = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        is_asked.set()
        await is_cancelled.wait()
        # A peer that writes before it reads must still be able to read.
        await talk.say(STARTED)
        await talk.data(Kind.STDOUT, 0, b"x" * MAX_DATA_BYTES)
        said.append(await talk.request())

    async with peer(tmp_path, script) as agent:
        running = asyncio.ensure_future(run(agent))
        await is_asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        is_cancelled.set()

    assert said == [{"op": "signal", "signal": 9, "tree": True}]


async def test_agent_that_goes_away_before_the_exit_is_unavailable(tmp_path: Path) -> None:
    async def gone(talk: Talk) -> None:
        await talk.wait_closed()

    async with peer(tmp_path, say(STARTED), gone) as agent:
        with pytest.raises(AgentUnavailable):
            await run(agent)


async def test_agent_silent_past_the_deadline_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "EXIT_MARGIN", 0.01)

    async def silence(talk: Talk) -> None:
        await talk.request()
        await talk.say(STARTED)
        await talk.wait_closed()

    async def gone(talk: Talk) -> None:
        await talk.wait_closed()

    async with peer(tmp_path, silence, gone) as agent:
        with pytest.raises(AgentUnavailable):
            await run(agent, StartRequest(program="x", cwd="/", timeout=0.01, grace=0.0))


async def test_slow_consumer_slows_the_agent(tmp_path: Path) -> None:
    sent = 0

    async def flood(talk: Talk) -> None:
        nonlocal sent
        await talk.request()
        await talk.say(STARTED)
        with contextlib.suppress(ConnectionError):
            while True:
                await talk.data(Kind.STDOUT, sent, b"x" * 65536)
                sent += 65536

    async def gone(talk: Talk) -> None:
        await talk.wait_closed()

    async with peer(tmp_path, flood, gone) as agent, agent.start(TRUE) as process:
        await anext(process)
        for _ in range(200):
            await asyncio.sleep(0)
        ahead = sent

    assert ahead < 1 << 20


async def test_fast_agent_leaves_other_tasks_their_turn(tmp_path: Path) -> None:
    async def flood(talk: Talk) -> None:
        await talk.request()
        await talk.say(STARTED)
        for index in range(64):
            await talk.data(Kind.STDOUT, index << 18, b"x" * (1 << 18))
        await talk.say(EXIT)

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with peer(tmp_path, flood) as agent:
        counting = asyncio.ensure_future(count())
        await run(agent)
        counting.cancel()

    assert turns >= 16


HOSTILE_STARTS: dict[str, bytes] = {
    "nonsense": b"\xff" * 64,
    "output first": encode_frame(Frame(Kind.STDOUT, 0, b"x")),
    "exit first": encode_control(EXIT),
    "another event": encode_control({"event": "done"}),
    "no event": encode_control({}),
    "missing field": encode_control({"event": "started", "process": 1}),
    "negative number": encode_control({**STARTED, "process": -1}),
    "bool for a number": encode_control({**STARTED, "pid": True}),
    "text for a number": encode_control({**STARTED, "pid": "1"}),
    "number beyond 63 bits": encode_control({**STARTED, "process": 2**63}),
    "unknown code": encode_control({"event": "error", "code": "?", "errno": 0, "message": ""}),
    "errno of another type": encode_control(
        {"event": "error", "code": "io", "errno": "x", "message": ""}
    ),
    "error without a message": encode_control({"event": "error", "code": "io", "errno": 0}),
}


@pytest.mark.parametrize("answer", HOSTILE_STARTS.values(), ids=HOSTILE_STARTS.keys())
async def test_hostile_answer_to_start_is_a_protocol_error(tmp_path: Path, answer: bytes) -> None:
    async with peer(tmp_path, send(answer)) as agent:
        with pytest.raises(AgentProtocolError):
            await run(agent)


HOSTILE_EVENTS: dict[str, bytes] = {
    "gap in a stream": encode_frame(Frame(Kind.STDOUT, 1, b"x")),
    "content": encode_frame(Frame(Kind.CONTENT, 0, b"x")),
    "stdin": encode_frame(Frame(Kind.STDIN, 0, b"x")),
    "started again": encode_control(STARTED),
    "code and signal": encode_control({**EXIT, "signal": 9}),
    "neither code nor signal": encode_control({**EXIT, "code": None}),
    "code beyond 255": encode_control({**EXIT, "code": 256}),
    "negative duration": encode_control({**EXIT, "duration_us": -1}),
    "text for bool": encode_control({**EXIT, "timed_out": "no"}),
}


@pytest.mark.parametrize("event", HOSTILE_EVENTS.values(), ids=HOSTILE_EVENTS.keys())
async def test_hostile_event_of_a_process_is_a_protocol_error(tmp_path: Path, event: bytes) -> None:
    async def gone(talk: Talk) -> None:
        await talk.wait_closed()

    async with peer(tmp_path, send(encode_control(STARTED) + event), gone) as agent:
        with pytest.raises(AgentProtocolError):
            await run(agent)
