# SPDX-License-Identifier: Apache-2.0
"""Events over HTTP, and what becomes of them when a reader is slow, a server is killed or a sandbox dies."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPResponse
from typing import Any

import pytest

from atoll import AsyncAtoll, Event
from tests.support.api import Api
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

LIMIT_MB = 2048
GREEDY = ["python3", "-c", f"memory = bytearray({4 * LIMIT_MB} << 20)"]
# More than the log, the mailbox of a reader and its socket hold together.
FLOOD = 1200
CHUNK = "x" * 4096
ADDRESSES = ("/v1/events", "/v1/sandboxes/{id}/events")


def lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


def read_lines(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    """Objects as they come."""
    while line := response.readline():
        yield json.loads(line)


def number(event: dict[str, Any]) -> int:
    return int(event["id"].rsplit("_", 1)[1])


def test_events_are_lines_or_server_sent_events(api: Api, runtime: str) -> None:
    with api.sandbox(runtime=runtime) as sandbox_id:
        api.execute(sandbox_id, ["true"])
    target = f"/v1/sandboxes/{sandbox_id}/events"

    told = lines(api.call("GET", target).body)
    sent = api.call("GET", target, headers={"Accept": "text/event-stream"})

    blocks = [block.splitlines() for block in sent.body.decode().strip().split("\n\n")]
    assert [json.loads(data.removeprefix("data: ")) for _, _, data in blocks] == told
    assert [name for name, _, _ in blocks] == [f"event: {event['type']}" for event in told]
    assert [place for _, place, _ in blocks] == [f"id: {event['id']}" for event in told]
    assert [event["type"] for event in told] == [
        "begin",
        "sandbox.created",
        "sandbox.started",
        "exec.started",
        "exec.completed",
        "sandbox.terminated",
        "end",
    ]
    assert told[1].keys() == {"id", "type", "timestamp", "sandboxId", "traceId", "data"}


def test_last_event_id_goes_before_the_address(api: Api, sandbox_id: str) -> None:
    api.execute(sandbox_id, ["true"])
    target = f"/v1/sandboxes/{sandbox_id}/events?follow=false"
    whole = lines(api.call("GET", target).body)[1:-1]

    headers = {"Last-Event-ID": whole[-2]["id"]}
    rest = lines(api.call("GET", f"{target}&since={whole[0]['id']}", headers=headers).body)

    assert rest[1:-1] == whole[-1:]


def test_types_are_asked_for_by_name_as_often_as_one_likes(api: Api, sandbox_id: str) -> None:
    api.execute(sandbox_id, ["true"])
    query = "follow=false&type=sandbox.started&type=exec.completed"

    told = lines(api.call("GET", f"/v1/sandboxes/{sandbox_id}/events?{query}").body)[1:-1]

    assert {event["type"] for event in told} == {"sandbox.started", "exec.completed"}


@pytest.mark.parametrize("query", ["type=x", "type=", "since=x", "since=1", "follow=maybe", "a=b"])
def test_bad_queries_are_refused(api: Api, sandbox_id: str, query: str) -> None:
    for address in ADDRESSES:
        answer = api.call("GET", f"{address.format(id=sandbox_id)}?{query}")
        assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")


def test_bad_last_event_id_is_refused(api: Api, sandbox_id: str) -> None:
    for given in ("x", "evt_", "-1", "evt_aaaaaaaaaa_" + "9" * 40):
        headers = {"Last-Event-ID": given}
        answer = api.call("GET", f"/v1/sandboxes/{sandbox_id}/events", headers=headers)
        assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")


def test_events_need_a_scope_of_their_own(api: Api, sandbox_id: str) -> None:
    body = {"scopes": ["sandbox:read", "sandbox:execute", "metrics:read"]}
    key = api.call("POST", "/v1/keys", body).json()
    try:
        answers = [
            api.call("GET", address.format(id=sandbox_id), key=key["key"]) for address in ADDRESSES
        ]
    finally:
        api.call("DELETE", f"/v1/keys/{key['id']}")

    assert [(answer.status, answer.error["code"]) for answer in answers] == [
        (403, "FORBIDDEN"),
        (403, "FORBIDDEN"),
    ]


def test_creation_that_fails_is_told(api: Api, runtime: str) -> None:
    fields = {"image": "host", "runtime": runtime, "workdir": "/proc/1/nowhere"}
    place = lines(api.call("GET", "/v1/events?since=latest&follow=false").body)[-1]["id"]

    refused = api.call("POST", "/v1/sandboxes", fields)
    told = lines(api.call("GET", f"/v1/events?follow=false&since={place}").body)[1:-1]

    assert refused.status >= 400
    assert [event["type"] for event in told] == [
        "sandbox.created",
        "sandbox.error",
        "sandbox.terminated",
    ]
    assert told[1]["data"]["error"]["code"] == refused.error["code"]
    assert told[2]["data"]["reason"] == "error"


def test_sandbox_whose_lifetime_is_over_is_told_with_that_reason(api: Api, runtime: str) -> None:
    sandbox_id = api.create(runtime=runtime, timeoutMs=1000)

    told = lines(api.call("GET", f"/v1/sandboxes/{sandbox_id}/events").body)

    assert [event["type"] for event in told[-2:]] == ["sandbox.terminated", "end"]
    assert told[-2]["data"]["reason"] == "timeout"


def test_command_whose_client_left_is_told_as_abandoned(api: Api, sandbox_id: str) -> None:
    target = f"/v1/sandboxes/{sandbox_id}"
    body = {"command": ["sleep", "1000"]}
    with api.open("GET", f"{target}/events?type=exec.failed&since=latest") as (response, _):
        events = read_lines(response)
        begin = next(events)
        accept = {"Accept": "application/x-ndjson"}
        with api.open("POST", f"{target}/execute", body, headers=accept) as (running, _):
            assert running.status == 200
        failed = next(events)

    assert begin["type"] == "begin"
    assert failed["data"]["command"] == body["command"]
    assert failed["data"]["error"]["code"] == "ABANDONED"


def test_streamed_command_is_told_as_any_other(api: Api, sandbox_id: str) -> None:
    target = f"/v1/sandboxes/{sandbox_id}"
    accept = {"Accept": "application/x-ndjson"}
    api.call("POST", f"{target}/execute", {"command": "echo streamed; exit 7"}, headers=accept)

    told = lines(api.call("GET", f"{target}/events?type=exec.completed&follow=false").body)

    assert (told[-2]["data"]["exitCode"], told[-2]["data"]["stdout"]) == (7, "streamed\n")


def test_sandbox_that_dies_is_told_with_what_ran_in_it(api: Api, runtime: str) -> None:
    with api.sandbox(runtime=runtime) as sandbox_id:
        started = api.call(
            "POST", f"/v1/sandboxes/{sandbox_id}/processes", {"command": ["sleep", "1000"]}
        ).json()
        kill_from_the_host(sandbox_id)
        target = f"/v1/sandboxes/{sandbox_id}/events?type=sandbox.error&type=exec.failed"
        with api.open("GET", target) as (response, _):
            told = [event for event, _ in zip(read_lines(response), range(3), strict=False)][1:]

    assert [event["type"] for event in told] == ["sandbox.error", "exec.failed"]
    assert told[0]["data"]["error"]["message"] == "its first process ended"
    assert told[1]["data"]["processId"] == started["id"]


def kill_from_the_host(sandbox_id: str) -> None:
    """End all of a sandbox as its host's kernel might."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and is_of(sandbox_id, entry.name):
            os.kill(int(entry.name), signal.SIGKILL)


def is_of(sandbox_id: str, pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            return sandbox_id in file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.isolated
def test_slow_reader_is_told_how_much_it_missed_and_hurts_nobody(own_server: ServerProcess) -> None:
    api = Api(own_server)
    with (
        api.sandbox(runtime="container") as sandbox_id,
        api.open("GET", "/v1/events?since=latest") as (slow, _),
        api.open("GET", "/v1/events?since=latest") as (quick, _),
        ThreadPoolExecutor(5) as threads,
    ):
        reading = threads.submit(read_until, quick, 2 * FLOOD)
        command = f"echo {CHUNK}; echo {CHUNK} >&2"
        ran = list(threads.map(lambda _: api.execute(sandbox_id, command).status, range(FLOOD)))
        whole = reading.result()
        told = read_until(slow, 2 * FLOOD)

    assert ran == [200] * FLOOD
    assert count_lost(whole) == 0
    assert [number(event) for event in whole] == [*range(3, 2 * FLOOD + 3)]
    assert 0 < count_lost(told) < 2 * FLOOD
    kept = [event for event in told if event["type"] != "events.lost"]
    assert kept == [event for event in whole if event in kept]
    assert len(kept) + count_lost(told) == 2 * FLOOD


def read_until(response: HTTPResponse, count: int) -> list[dict[str, Any]]:
    """So many events, told or lost."""
    told: list[dict[str, Any]] = []
    for event in read_lines(response):
        if "." in event["type"]:
            told.append(event)
            if count_events(told) >= count:
                break
    return told


def count_events(told: Iterable[dict[str, Any]]) -> int:
    return sum(event["data"].get("count", 1) for event in told)


def count_lost(told: Iterable[dict[str, Any]]) -> int:
    return sum(event["data"]["count"] for event in told if event["type"] == "events.lost")


@pytest.mark.isolated
async def test_server_that_was_killed_leaves_a_gap_that_is_told(
    own_server: ServerProcess, runtime: str
) -> None:
    async with AsyncAtoll(own_server.url, own_server.api_key) as client:
        sandbox = await client.sandboxes.create("host", runtime=runtime)
        feed = sandbox.events()
        before = [await anext(feed) for _ in range(2)]
        own_server.kill()
        own_server.start()

        gap = await anext(feed)
        await sandbox.exec(["true"])
        await sandbox.terminate()
        after = [event async for event in feed]

    assert [event.type for event in before] == ["sandbox.created", "sandbox.started"]
    assert (gap.type, gap.data) == ("events.lost", {"count": None, "reason": "restart"})
    assert [event.type for event in after] == [
        "exec.started",
        "exec.completed",
        "sandbox.terminated",
    ]


@pytest.mark.isolated
def test_sandbox_that_was_gone_when_the_server_started_is_told_as_lost(
    own_server: ServerProcess, runtime: str
) -> None:
    api = Api(own_server)
    sandbox_id = api.create(runtime=runtime)
    own_server.kill()
    kill_from_the_host(sandbox_id)
    own_server.start()

    told = lines(api.call("GET", f"/v1/sandboxes/{sandbox_id}/events").body)

    assert [event["type"] for event in told] == ["begin", "sandbox.terminated", "end"]
    assert told[1]["data"]["reason"] == "lost"


@pytest.mark.isolated
async def test_what_ran_out_of_memory_is_known_after_a_restart(
    own_server: ServerProcess, runtime: str
) -> None:
    async with AsyncAtoll(own_server.url, own_server.api_key) as client:
        resources = {"memory_mb": LIMIT_MB}
        sandbox = await client.sandboxes.create("host", runtime=runtime, resources=resources)
        killed = await sandbox.processes.start(["sleep", "1000"])
        await killed.kill()
        greedy = await sandbox.processes.start(GREEDY)
        events: list[Event] = []
        async for event in sandbox.events(["process.oom", "exec.completed"]):
            events.append(event)
            if event.data["process_id"] == greedy.id and event.type == "exec.completed":
                break
        wait_until(lambda: len(kills_that_are_kept(own_server)) == 1)
        own_server.kill()
        own_server.start()

        verdicts = [(await process.wait()).oom_killed for process in (killed, greedy, greedy)]
        await sandbox.terminate()

    assert [event.type for event in events] == ["exec.completed", "process.oom", "exec.completed"]
    assert verdicts == [False, True, True]


def kills_that_are_kept(server: ServerProcess) -> list[int]:
    """Which processes the store knows to have run out of memory."""
    path = next(server.state_dir.glob("*.db"))
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        ((host,),) = database.execute("SELECT host FROM sandboxes")
    kept: list[int] = json.loads(host)["oom"]["killed"]
    return kept
