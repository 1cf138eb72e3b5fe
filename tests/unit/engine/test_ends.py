# SPDX-License-Identifier: Apache-2.0
"""Ends of processes that nobody waits for, as the agent tells them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.engine.ends import EXPECTED_LIMIT, Ends
from atoll_server.engine.model import Exit
from tests.unit.agent.peer import Script, Talk, peer, say
from tests.unit.engine.test_processes import DONE, record

LISTENING: dict[str, Any] = {"event": "listening"}
SLOW: dict[str, Any] = {"event": "error", "code": "slow", "errno": 0, "message": "why"}


class Hearer:
    """What it was told."""

    def __init__(self) -> None:
        self.exits: list[Exit] = []
        self.reasons: list[str] = []

    def ended(self, exit: Exit, *, is_output_known: bool = True) -> None:
        assert not is_output_known
        self.exits.append(exit)

    def unheard(self, why: str) -> None:
        self.reasons.append(why)


class Beside:
    """Runs work in tasks."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def __call__(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    async def wait(self) -> None:
        await asyncio.gather(*self.tasks)


def listed(*records: dict[str, Any]) -> Script:
    return say({"event": "processes", "processes": [*records]}, DONE)


def telling(*messages: dict[str, Any]) -> Script:
    async def script(talk: Talk) -> None:
        assert (await talk.request())["op"] == "ends"
        for message in (LISTENING, *messages):
            await talk.say(message)
        await talk.wait_closed()

    return script


def told(**fields: Any) -> dict[str, Any]:
    return {"event": "processes", "processes": [record(**fields)]}


def ends_of(agent: AgentClient, *oom_killed: int) -> Ends:
    agent.tells_ends = True
    return Ends(agent, oom_killed.__contains__)


async def test_end_is_heard_from_the_agent(tmp_path: Path) -> None:
    hearer, beside = Hearer(), Beside()
    news = told(code=3, started_ns=10**9, ended_ns=3 * 10**9)

    async with peer(
        tmp_path, telling(told(process=6, code=0, ended_ns=2), news), listed(record())
    ) as agent:
        ends_of(agent).expect(7, hearer, beside)
        await beside.wait()

    (exit,) = hearer.exits
    assert (exit.code, exit.signal, exit.duration) == (3, None, 2.0)


async def test_process_that_ended_before_anybody_listened_is_found_by_asking(
    tmp_path: Path,
) -> None:
    hearer, beside = Hearer(), Beside()

    async with peer(tmp_path, telling(), listed(record(signal=9, ended_ns=5))) as agent:
        ends_of(agent, 7).expect(7, hearer, beside)
        await beside.wait()

    (exit,) = hearer.exits
    assert (exit.signal, exit.oom_killed) == (9, True)


async def test_process_that_the_agent_has_forgotten_is_said_to_be_unheard_of(
    tmp_path: Path,
) -> None:
    hearer, beside = Hearer(), Beside()

    async with peer(tmp_path, telling(), listed()) as agent:
        ends_of(agent).expect(7, hearer, beside)
        await beside.wait()

    assert (hearer.exits, len(hearer.reasons)) == ([], 1)


async def test_who_was_too_slow_asks_and_listens_anew(tmp_path: Path) -> None:
    hearer, beside = Hearer(), Beside()
    scripts = [telling(SLOW), listed(record()), telling(), listed(record(code=0, ended_ns=2))]

    async with peer(tmp_path, *scripts) as agent:
        ends_of(agent).expect(7, hearer, beside)
        await beside.wait()

    assert len(hearer.exits) == 1


async def test_one_connection_does_for_all_processes(tmp_path: Path) -> None:
    first, second, beside = Hearer(), Hearer(), Beside()

    async with peer(
        tmp_path,
        telling(told(process=8, code=1, ended_ns=2), told(process=7, code=0, ended_ns=2)),
        listed(record(), record(process=8)),
    ) as agent:
        ends = ends_of(agent)
        ends.expect(7, first, beside)
        ends.expect(8, second, beside)
        await beside.wait()

    assert len(beside.tasks) == 1
    assert ([exit.code for exit in first.exits], [exit.code for exit in second.exits]) == ([0], [1])


async def test_lost_agent_ends_the_listening_and_the_next_process_begins_it_anew(
    tmp_path: Path,
) -> None:
    first, second, beside = Hearer(), Hearer(), Beside()

    async def break_off(talk: Talk) -> None:
        await talk.request()

    both = listed(record(code=0, ended_ns=2), record(process=8, code=0, ended_ns=2))
    scripts = [break_off, telling(), both]
    async with peer(tmp_path, *scripts) as agent:
        ends = ends_of(agent)
        ends.expect(7, first, beside)
        await beside.wait()
        assert first.exits == []
        ends.expect(8, second, beside)
        await beside.wait()

    assert (len(first.exits), len(second.exits)) == (1, 1)


async def test_agent_that_does_not_tell_is_not_asked() -> None:
    hearer, beside = Hearer(), Beside()

    Ends(AgentClient("/nowhere"), lambda number: False).expect(7, hearer, beside)

    assert (beside.tasks, len(hearer.reasons)) == ([], 1)


async def test_only_so_many_are_waited_for(tmp_path: Path) -> None:
    hearers, beside = [Hearer() for _ in range(EXPECTED_LIMIT + 1)], Beside()
    records = [record(process=n, code=0, ended_ns=2) for n in range(1, EXPECTED_LIMIT + 2)]

    async with peer(tmp_path, telling(), listed(*records)) as agent:
        ends = ends_of(agent)
        for number, hearer in enumerate(hearers, 1):
            ends.expect(number, hearer, beside)
        await beside.wait()

    assert [len(hearer.exits) for hearer in hearers] == [1] * EXPECTED_LIMIT + [0]
    assert [len(hearer.reasons) for hearer in hearers] == [0] * EXPECTED_LIMIT + [1]


@pytest.mark.parametrize(("features", "tells"), [([], False), (["x", "ends"], True)])
async def test_agent_says_whether_it_tells(
    tmp_path: Path, features: list[str], tells: bool
) -> None:
    words = {"event": "done", "generation": 3, "version": "1", "pid": 1, "features": features}

    async with peer(tmp_path, say(words)) as agent:
        await agent.hello(1)

    assert agent.tells_ends == tells
