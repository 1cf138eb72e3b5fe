# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest

from atoll.cli import events as command
from atoll.models import Event
from tests.support.scripted_server import Answer, ScriptedServer, answer_error, answer_json
from tests.unit.cli.conftest import Atoll
from tests.unit.sdk import samples

INFO = answer_json(samples.sandbox())
SANDBOX = "sb_0123456789"
ABOUT = {"command": ["echo", "a b"], "commandTruncated": False}
SAID: list[tuple[str, dict[str, Any], str]] = [
    (
        "sandbox.created",
        {"image": "host", "runtime": "gvisor", "resources": {"memoryMb": 256}},
        "host in gvisor, 256 MiB",
    ),
    ("sandbox.started", {"startupDurationMs": 31}, "in 31 ms"),
    ("exec.started", ABOUT, "echo 'a b'"),
    ("exec.completed", {**ABOUT, "exitCode": 3, "durationMs": 61_000}, "3 in 1m01s  echo 'a b'"),
    (
        "exec.completed",
        {**ABOUT, "exitCode": 137, "signal": "SIGKILL", "durationMs": 5},
        "SIGKILL in 5 ms  echo 'a b'",
    ),
    (
        "exec.timed_out",
        {"command": "x", "commandTruncated": True, "signal": "SIGTERM", "durationMs": 999},
        "SIGTERM after 999 ms  x …",
    ),
    ("exec.failed", {"command": "x", "error": {"message": "why"}}, "why  x"),
    ("process.oom", {"command": "x", "memoryLimitMb": 256}, "out of memory, 256 MiB  x"),
    ("sandbox.oom", {"memoryLimitMb": 256}, "out of memory, 256 MiB"),
    ("sandbox.error", {"error": {"message": "why"}}, "why"),
    (
        "sandbox.terminated",
        {"reason": "timeout", "totalRuntimeMs": 1500, "detail": "it was late"},
        "timeout after 1.5s: it was late",
    ),
    (
        "network.denied",
        {"host": "a.test", "port": 443, "reason": "not_listed", "text": "why", "count": 2},
        "a.test port 443, 2 x not_listed: why",
    ),
    (
        "network.denied",
        {"host": None, "port": None, "reason": None, "text": "why", "count": 9},
        "several destinations, 9 x None: why",
    ),
    (
        "network.egress",
        {"host": "a.test", "port": 443, "connections": 2, "bytesSent": 5, "bytesReceived": 7},
        "a.test port 443, 2 ended: 5 bytes out, 7 in",
    ),
    ("events.lost", {"count": 3, "reason": "overflow"}, "3 events were not told here"),
    ("events.lost", {"count": None, "reason": "overflow"}, "some events were not told here"),
    (
        "events.lost",
        {"count": None, "reason": "restart"},
        "the server was started anew: what happened before is not known",
    ),
    ("moon.risen", {"x": 1}, ""),
]


def stream(*lines: bytes) -> Answer:
    end = samples.event_line("end", 99)
    headers = {"Content-Type": "application/x-ndjson"}
    return Answer(headers=headers, pieces=(*lines, end))


@pytest.mark.parametrize(("kind", "data", "shown"), SAID)
def test_event_is_a_line(
    atoll: Atoll, scripted: ScriptedServer, kind: str, data: dict[str, Any], shown: str
) -> None:
    scripted.script.append(stream(samples.event_line(kind, 1, data)))

    done = atoll("events")

    time, sandbox_id, told, *rest = done.stdout.split(maxsplit=3)
    assert (sandbox_id, told) == (SANDBOX, kind)
    assert "".join(rest).rstrip("\n") == shown
    assert len(time) == len("03:04:05.678")
    assert done.exit_code == 0


def test_all_that_is_asked_for_reaches_the_server(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [INFO, stream(), stream()]

    atoll("events", SANDBOX, "--type", "terminated", "--type", "exec.started", "-f")
    atoll("events")

    assert scripted.asked[1].target == (
        f"/v1/sandboxes/{SANDBOX}/events?type=sandbox.terminated&type=exec.started"
    )
    assert scripted.asked[2].target == "/v1/events?follow=false"


def test_programs_get_an_object_a_line(atoll: Atoll, scripted: ScriptedServer) -> None:
    data = {"exitCode": 3, "command": "\u2028"}
    scripted.script.append(stream(samples.event_line("exec.completed", 1, data)))

    done = atoll("events", "--json")

    assert done.stdout.isascii()
    assert json.loads(done.stdout) == samples.event("exec.completed", 1, data)


def test_commands_cannot_steer_the_terminal(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script.append(stream(samples.event_line("exec.started", 1, {"command": "\x1b[2J"})))

    assert r"\x1b[2J" in atoll("events").stdout


def test_colours_are_around_what_is_safe() -> None:
    data = {"command": "\x1b[2J", "exit_code": 0, "duration_ms": 5}
    event = Event("evt_a_1", "exec.completed", samples.INSTANT, "sb_\x1b", None, data)

    line = command._render_coloured(event)

    assert line.count("\x1b") == 4
    assert "\x1b[32mexec.completed" in line
    assert "sb_\\x1b" in line
    assert line.endswith(r"0 in 5 ms  \x1b[2J")


def test_unknown_sandbox_has_its_status(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script.append(answer_error("SANDBOX_NOT_FOUND", 404))
    assert atoll("events", "sb_none").exit_code == 66
