# SPDX-License-Identifier: Apache-2.0
"""Events over HTTP, with an engine in memory: every type as it is written, and how streams of them begin and end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atoll_server.api.native.event_wire import _RENDERERS
from atoll_server.engine.happenings import (
    EVENT_TYPES,
    EventsLost,
    ExecCompleted,
    ExecFailed,
    ExecStarted,
    ExecTimedOut,
    Happening,
    NetworkDenied,
    NetworkEgress,
    ProcessOutOfMemory,
    SandboxCreated,
    SandboxError,
    SandboxOutOfMemory,
    SandboxStarted,
    SandboxTerminated,
)
from atoll_server.engine.keys import SANDBOX_SCOPES, Scope
from atoll_server.engine.model import Cause, Exit, Limits, ProcessId, RuntimeKind, SandboxId
from tests.unit.api.memory import Client

pytestmark = pytest.mark.anyio

PROCESS = ProcessId("proc_7")
LIMITS = Limits(0.5, 256, 1024, pids=64, open_files=128)
KILLED = Exit(None, 9, False, True, duration=1.5, stdout_bytes=3, stderr_bytes=0)
STOPPED = Exit(None, 15, True, False, duration=0.25, stdout_bytes=0, stderr_bytes=0)
ABOUT = {"processId": "proc_7", "command": "make", "commandTruncated": False}
WORDS = {"processId": None, "command": ["a", "b"], "commandTruncated": True}
RESOURCES = {"cpu": 0.5, "memoryMb": 256, "diskMb": 1024, "pids": 64, "openFiles": 128}

WRITTEN: list[tuple[Happening, dict[str, Any]]] = [
    (
        SandboxCreated("host", RuntimeKind.GVISOR, LIMITS),
        {"image": "host", "runtime": "gvisor", "resources": RESOURCES},
    ),
    (SandboxStarted(0.0125), {"startupDurationMs": 12}),
    (SandboxOutOfMemory(256), {"memoryLimitMb": 256}),
    (
        SandboxError("INTERNAL", "no \udcff"),
        {"error": {"code": "INTERNAL", "message": "no \\udcff"}},
    ),
    (
        SandboxTerminated(2.0, Cause.TIMEOUT, "its lifetime was over"),
        {"totalRuntimeMs": 2000, "reason": "timeout", "detail": "its lifetime was over"},
    ),
    (ExecStarted(PROCESS, "make", False, cwd="/w"), {**ABOUT, "cwd": "/w"}),
    (
        ExecCompleted(PROCESS, "make", False, KILLED, b"\xffout", None, True),
        {
            **ABOUT,
            "exitCode": 137,
            "signal": "SIGKILL",
            "durationMs": 1500,
            "oom": True,
            "stdout": "\ufffdout",
            "stderr": None,
            "truncated": True,
        },
    ),
    (
        ExecTimedOut(PROCESS, "make", False, timeout=0.2, exit=STOPPED),
        {**ABOUT, "timeoutMs": 200, "signal": "SIGTERM", "durationMs": 250},
    ),
    (
        ExecFailed(None, ("a", "b"), True, code="INTERNAL", message="why"),
        {**WORDS, "error": {"code": "INTERNAL", "message": "why"}},
    ),
    (
        ProcessOutOfMemory(PROCESS, "make", False, memory_mb=256),
        {**ABOUT, "memoryLimitMb": 256},
    ),
    (
        NetworkDenied("a.test", 443, "not_listed", "why", 3),
        {"host": "a.test", "port": 443, "reason": "not_listed", "text": "why", "count": 3},
    ),
    (
        NetworkEgress("a.test", 443, 2, 5, 7),
        {"host": "a.test", "port": 443, "connections": 2, "bytesSent": 5, "bytesReceived": 7},
    ),
]


@pytest.fixture
async def client() -> Client:
    return Client()


def lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.parametrize(("what", "data"), WRITTEN, ids=lambda value: getattr(value, "type", ""))
async def test_each_type_has_its_members(
    client: Client, what: Happening, data: dict[str, Any]
) -> None:
    sandbox_id = await client.create()
    client.engine.log.add(sandbox_id, what)

    answer = await client.request("GET", "/v1/events?follow=false")

    _, event, _ = lines(answer.body)
    assert event["data"] == data
    assert event["type"] == what.type
    assert event["sandboxId"] == sandbox_id
    assert event["timestamp"] == "2030-01-01T00:00:00.000Z"
    assert len(bytes.fromhex(event["traceId"])) == 16


def test_every_type_is_written() -> None:
    assert {kind.type for kind in _RENDERERS} == set(EVENT_TYPES)
    assert {type(what) for what, _ in WRITTEN} == _RENDERERS.keys() - {EventsLost}


async def test_stream_says_where_it_begins_and_ends(client: Client) -> None:
    epoch = client.engine.log.epoch
    answer = await client.request("GET", "/v1/events?follow=false")

    place = f"evt_{epoch}_0"
    assert lines(answer.body) == [{"type": "begin", "id": place}, {"type": "end", "id": place}]


async def test_lost_events_are_an_event(client: Client) -> None:
    headers = {"last-event-id": "evt_aaaaaaaaaa_5"}
    answer = await client.request("GET", "/v1/events?follow=false", headers=headers)

    begin, lost, _ = lines(answer.body)
    assert begin["id"] == "evt_aaaaaaaaaa_5"
    assert lost["type"] == "events.lost"
    assert lost["data"] == {"count": None, "reason": "restart"}
    assert (lost["sandboxId"], lost["traceId"]) == (None, None)


async def test_events_of_one_sandbox_are_its_own(client: Client) -> None:
    first, second = await client.create(), await client.create()
    for sandbox_id in (first, second):
        client.engine.log.add(sandbox_id, SandboxStarted(1.0))

    answer = await client.request("GET", f"/v1/sandboxes/{second}/events?follow=false")

    assert [event["sandboxId"] for event in lines(answer.body)[1:-1]] == [second]


async def test_unknown_sandbox_has_no_events(client: Client) -> None:
    answer = await client.request("GET", "/v1/sandboxes/sb_0000000009/events")
    assert (answer.status, answer.code) == (404, "SANDBOX_NOT_FOUND")


async def test_unknown_types_are_refused_with_those_that_there_are(client: Client) -> None:
    answer = await client.request("GET", "/v1/events?type=exec.completed&type=exec.ended")

    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert "sandbox.created, sandbox.started" in answer.json["error"]["message"]


async def test_head_begins_nothing(client: Client) -> None:
    answer = await client.request("HEAD", "/v1/events")
    assert (answer.status, answer.body) == (200, b"")


def test_whoever_may_do_all_with_sandboxes_may_read_their_events() -> None:
    assert Scope.EVENTS in SANDBOX_SCOPES


def test_sandbox_ids_are_not_in_trace_ids() -> None:
    from atoll_server.engine.ids import trace_id

    first, second = trace_id(SandboxId("sb_a")), trace_id(SandboxId("sb_b"))
    assert first != second
    assert first == trace_id(SandboxId("sb_a"))
