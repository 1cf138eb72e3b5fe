# SPDX-License-Identifier: Apache-2.0
"""Events, against the real server: what happens is told in order, once, or as missing."""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

import atoll
from atoll import AsyncAtoll, AsyncSandbox, Event
from tests.support.cutter import Cutter
from tests.support.server import ServerProcess

LIMIT_MB = 2048
GREEDY = ["python3", "-c", f"memory = bytearray({4 * LIMIT_MB} << 20)"]
WAIT_MS = 30_000


@pytest.fixture
async def sandbox(client: AsyncAtoll, runtime: str) -> AsyncIterator[AsyncSandbox]:
    """A sandbox for the test alone."""
    async with await client.sandboxes.create("host", runtime=runtime) as sandbox:
        yield sandbox


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


async def told(sandbox: AsyncSandbox, *wanted: str) -> list[Event]:
    """All that is known of a sandbox by now."""
    return [event async for event in sandbox.events(wanted or None, follow=False)]


async def test_life_of_a_sandbox_is_told_in_order(client: AsyncAtoll, runtime: str) -> None:
    async with await client.sandboxes.create("host", runtime=runtime) as sandbox:
        await sandbox.exec("echo out; echo err >&2; exit 3", cwd="/tmp")
        await sandbox.exec(["sleep", "60"], timeout_ms=100)
    events = [event async for event in sandbox.events()]

    assert types(events) == [
        "sandbox.created",
        "sandbox.started",
        "exec.started",
        "exec.completed",
        "exec.started",
        "exec.timed_out",
        "sandbox.terminated",
    ]
    created, started, began, completed, _, timed_out, terminated = (e.data for e in events)
    assert (created["image"], created["runtime"]) == ("host", runtime)
    assert created["resources"]["memory_mb"] == sandbox.resources.memory_mb
    assert started["startup_duration_ms"] > 0
    assert (began["command"], began["cwd"]) == ("echo out; echo err >&2; exit 3", "/tmp")
    assert completed["process_id"] == began["process_id"]
    assert completed["command"] == began["command"]
    assert (completed["exit_code"], completed["oom"]) == (3, False)
    assert (completed["stdout"], completed["stderr"]) == ("out\n", "err\n")
    assert (timed_out["timeout_ms"], timed_out["signal"]) == (100, "SIGTERM")
    assert terminated["reason"] == "user"
    assert terminated["total_runtime_ms"] >= timed_out["duration_ms"]
    assert {event.sandbox_id for event in events} == {sandbox.id}
    assert len({event.trace_id for event in events}) == 1
    assert len({event.id for event in events}) == len(events)


async def test_command_that_ran_out_of_memory_is_told_as_that(
    client: AsyncAtoll, runtime: str
) -> None:
    resources = {"memory_mb": LIMIT_MB}
    create = client.sandboxes.create("host", runtime=runtime, resources=resources)
    async with await create as sandbox:
        await sandbox.exec(GREEDY)
        events = await told(sandbox, "exec.started", "process.oom", "exec.completed")

    assert types(events) == ["exec.started", "process.oom", "exec.completed"]
    assert events[1].data["memory_limit_mb"] == LIMIT_MB
    assert events[1].data["command"] == GREEDY
    assert events[2].data["oom"]
    assert events[2].data["signal"] == "SIGKILL"


async def test_process_that_nobody_waits_for_is_told_to_have_ended(sandbox: AsyncSandbox) -> None:
    ended: list[Event] = []
    subscription = await sandbox.on("exec.completed", ended.append)

    first = await sandbox.processes.start("read line; exit 4", stdin_open=True)
    second = await sandbox.processes.start(["sleep", "1000"])
    await first.close_stdin()
    await second.kill()
    running = {first.id, second.id}
    async for event in sandbox.events("exec.completed"):
        running.discard(event.data["process_id"])
        if not running:
            break
    await sandbox.terminate()
    await subscription.wait(WAIT_MS)

    ends = [(event.data["process_id"], event.data["exit_code"]) for event in ended]
    assert sorted(ends) == [(first.id, 4), (second.id, 137)]
    assert [event.data["stdout"] for event in ended] == [None, None]


async def test_what_runs_when_its_sandbox_ends_is_told_before_that_end(
    sandbox: AsyncSandbox,
) -> None:
    await sandbox.processes.start(["sleep", "1000"])

    await sandbox.terminate()
    events = [event async for event in sandbox.events()]

    assert types(events)[-3:] == ["exec.started", "exec.failed", "sandbox.terminated"]
    assert events[-2].data["error"]["code"] == "SANDBOX_FAILED"


async def test_secrets_are_in_no_event(sandbox: AsyncSandbox) -> None:
    env, stdin = "value-of-the-environment", "what-is-typed"

    await sandbox.exec("cat > /dev/null", env={"SECRET": env}, stdin=stdin)
    await sandbox.processes.start("cat > /dev/null", env={"SECRET": env}, stdin=stdin)
    events = await told(sandbox)

    assert "exec.completed" in types(events)
    assert env not in repr(events)
    assert stdin not in repr(events)


async def test_excerpts_are_the_ends_of_long_output_and_the_beginning_of_long_commands(
    sandbox: AsyncSandbox,
) -> None:
    await sandbox.exec(f"seq 100000; true {'x' * 100_000}")
    (completed,) = await told(sandbox, "exec.completed")

    data = completed.data
    assert data["stdout"].endswith("\n99999\n100000\n")
    assert len(data["stdout"]) <= 4096
    assert len(data["command"]) == 4096
    assert (data["truncated"], data["command_truncated"]) == (True, True)


async def test_each_event_comes_once_over_connections_that_break(
    server: ServerProcess, sandbox: AsyncSandbox
) -> None:
    count = 200
    for number in range(count):
        await sandbox.exec(["true", str(number)])
    await sandbox.terminate()
    whole = [event async for event in sandbox.events()]
    chance = random.Random(7)

    with Cutter(server.port, lambda: chance.randrange(500, 9000)) as cutter:
        async with AsyncAtoll(cutter.url, server.api_key) as client:
            found = AsyncSandbox(client._transport, sandbox.info)
            cut = [event async for event in found.events()]

    assert cut == whole
    assert types(whole).count("exec.completed") == count
    assert cutter.cuts > 5


async def test_reading_goes_on_behind_the_event_that_is_known(sandbox: AsyncSandbox) -> None:
    await sandbox.exec("true")
    whole = await told(sandbox)

    rest = [event async for event in sandbox.events(since=whole[1].id, follow=False)]

    assert rest == whole[2:]


async def test_what_happens_after_now_is_all_that_latest_tells(sandbox: AsyncSandbox) -> None:
    await sandbox.exec("true")
    assert [event async for event in sandbox.events(since="latest", follow=False)] == []


async def test_started_is_told_although_it_is_over(sandbox: AsyncSandbox) -> None:
    started: list[Event] = []
    terminated: list[Event] = []
    first = await sandbox.on("started", started.append)
    second = await sandbox.on("terminated", terminated.append)

    await sandbox.terminate()
    assert await first.wait(WAIT_MS)
    assert await second.wait(WAIT_MS)

    assert types(started) == ["sandbox.started"]
    assert [event.data["reason"] for event in terminated] == ["user"]
    assert not first.is_active
    assert second.error is None


async def test_function_that_fails_is_heard_of_and_called_again(
    sandbox: AsyncSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def fail(event: Event) -> None:
        seen.append(event.type)
        raise ValueError("not this one")

    with caplog.at_level(logging.ERROR, "atoll"):
        subscription = await sandbox.on(["exec.started", "exec.completed"], fail)
        await sandbox.exec("true")
        await sandbox.terminate()
        await subscription.wait(WAIT_MS)

    assert seen == ["exec.started", "exec.completed"]
    assert caplog.text.count("ValueError: not this one") == 2


async def test_cancelled_subscription_calls_nobody(sandbox: AsyncSandbox) -> None:
    seen: list[Event] = []

    async with await sandbox.on("*", seen.append) as subscription:
        await subscription.cancel()
    await sandbox.exec("true")
    everything = await told(sandbox, "exec.completed")

    assert len(everything) == 1
    assert seen == []
    assert not subscription.is_active


async def test_subscription_can_be_cancelled_by_what_it_calls(sandbox: AsyncSandbox) -> None:
    seen: list[Event] = []
    held: list[Any] = []

    async def once(event: Event) -> None:
        seen.append(event)
        await held[0].cancel()

    held.append(await sandbox.on("exec.started", once))
    await sandbox.exec("true")
    assert await held[0].wait(WAIT_MS)

    assert types(seen) == ["exec.started"]


async def test_closed_client_ends_its_subscriptions(server: ServerProcess) -> None:
    async with AsyncAtoll(server.url, server.api_key) as client:
        subscription = await client.on("*", lambda event: None)
        was_active = subscription.is_active

    assert (was_active, subscription.is_active) == (True, False)
    assert subscription.error is None


async def test_type_that_there_is_not_is_refused(sandbox: AsyncSandbox) -> None:
    with pytest.raises(atoll.InvalidRequest, match=r"sandbox\.created"):
        await sandbox.on("terminatd", lambda event: None)


async def test_events_of_an_unknown_sandbox_are_refused(sandbox: AsyncSandbox) -> None:
    info = dataclasses.replace(sandbox.info, id="sb_0000000000")
    unknown = AsyncSandbox(sandbox._transport, info)

    with pytest.raises(atoll.SandboxNotFound):
        await told(unknown)
