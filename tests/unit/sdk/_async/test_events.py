# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from urllib.parse import parse_qsl

import pytest

import atoll
from atoll import AsyncAtoll, AsyncSandbox, Event
from tests.support.scripted_server import Answer, ScriptedServer, answer_error
from tests.unit.sdk import samples

ALL = "/v1/events"
OWN = "/v1/sandboxes/sb_0123456789/events"
WAIT_MS = 10_000


def stream(*lines: bytes, cut: bool = False) -> Answer:
    headers = {"Content-Type": "application/x-ndjson"}
    return Answer(headers=headers, pieces=lines, cut=cut)


BEGIN = samples.event_line("begin", 0)
END = samples.event_line("end", 9)
NOW = stream(BEGIN, samples.event_line("end", 0))


def event(number: int, kind: str = "exec.started") -> bytes:
    return samples.event_line(kind, number)


def queries(scripted: ScriptedServer) -> list[list[tuple[str, str]]]:
    return [parse_qsl(asked.target.partition("?")[2]) for asked in scripted.asked]


async def test_events_are_asked_for_as_they_are_wanted(
    client: AsyncAtoll, sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [stream(BEGIN, END)] * 3

    async for _ in client.events():
        pass
    async for _ in client.events(["a.b", "c.d"], since="evt_aaaaaaaaaa_3", follow=False):
        pass
    async for _ in sandbox.events("terminated"):
        pass

    assert [asked.path for asked in scripted.asked] == [ALL, ALL, OWN]
    assert queries(scripted) == [
        [],
        [("since", "evt_aaaaaaaaaa_3"), ("follow", "false"), ("type", "a.b"), ("type", "c.d")],
        [("type", "sandbox.terminated")],
    ]


async def test_reading_comes_back_behind_what_it_has(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [
        stream(BEGIN, cut=True),
        stream(BEGIN, event(1), event(2), cut=True),
        stream(event(3), END),
    ]

    told = [event async for event in client.events(since="latest")]

    assert [event.id for event in told] == [f"evt_aaaaaaaaaa_{number}" for number in (1, 2, 3)]
    assert [dict(query)["since"] for query in queries(scripted)] == [
        "latest",
        "evt_aaaaaaaaaa_0",
        "evt_aaaaaaaaaa_2",
    ]


async def test_subscription_is_told_of_all_that_comes_after_it_was_asked_for(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    seen: list[str] = []
    scripted.script += [NOW, stream(event(1), cut=True), stream(event(2), END)]

    subscription = await client.on("exec.started", lambda event: seen.append(event.id))
    assert await subscription.wait(WAIT_MS)

    assert seen == ["evt_aaaaaaaaaa_1", "evt_aaaaaaaaaa_2"]
    assert queries(scripted)[0] == [
        ("since", "latest"),
        ("follow", "false"),
        ("type", "exec.started"),
    ]
    assert [dict(query)["since"] for query in queries(scripted)[1:]] == [
        "evt_aaaaaaaaaa_0",
        "evt_aaaaaaaaaa_1",
    ]
    assert (subscription.types, subscription.error) == (("exec.started",), None)


async def test_start_of_a_sandbox_is_asked_for_from_the_beginning(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [NOW, stream(event(1, "sandbox.started"), END)]

    subscription = await sandbox.on("started", lambda event: None)
    await subscription.wait(WAIT_MS)

    assert queries(scripted)[1] == [("type", "sandbox.started")]


async def test_what_a_subscription_is_not_told_is_logged(
    client: AsyncAtoll, scripted: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Event] = []
    lost = samples.event_line("events.lost", 5, {"count": 4, "reason": "overflow"})
    scripted.script += [NOW, stream(lost, END)]

    with caplog.at_level(logging.WARNING, "atoll"):
        subscription = await client.on("exec.started", seen.append)
        await subscription.wait(WAIT_MS)

    assert seen == []
    assert "was not told of some events" in caplog.text
    assert "'count': 4" in caplog.text


async def test_subscription_to_everything_hears_of_losses(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    seen: list[str] = []
    scripted.script += [NOW, stream(event(1, "events.lost"), END)]

    subscription = await client.on("*", lambda event: seen.append(event.type))
    await subscription.wait(WAIT_MS)

    assert seen == ["events.lost"]


async def test_refusal_is_raised_where_the_subscription_is_made(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script.append(answer_error("FORBIDDEN", 403))

    with pytest.raises(atoll.Forbidden):
        await client.on("*", lambda event: None)


async def test_subscription_that_is_refused_later_says_why(
    client: AsyncAtoll, scripted: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.script += [NOW, answer_error("SANDBOX_NOT_FOUND", 404)]

    with caplog.at_level(logging.ERROR, "atoll"):
        subscription = await client.on("*", lambda event: None)
        assert await subscription.wait(WAIT_MS)

    assert isinstance(subscription.error, atoll.SandboxNotFound)
    assert "hears of no more events" in caplog.text
