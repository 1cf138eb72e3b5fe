# SPDX-License-Identifier: Apache-2.0
"""JSON made to be expensive costs the server next to nothing: its own processor time is looked at, not the clock."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import pytest

from tests.support.api import Api

LIMIT = 8 * 1024 * 1024
ROOM = LIMIT - 100
TICK = 1 / os.sysconf("SC_CLK_TCK")
# A reading is late by a tick at most, and there are two of them.
MOST_SECONDS = 0.1 + 2 * TICK
UNKNOWN_BATCH = "/v1/sandboxes/sb_0000000000/files/batch/write"
UNKNOWN = "/v1/sandboxes/sb_0000000000/execute"

BOMBS = {
    "depth": b'{"command":' + b"[" * ROOM,
    "depth of closed arrays": b"[" * (ROOM // 2) + b"]" * (ROOM // 2),
    "depth of objects": b'{"a":' * (ROOM // 5),
    "depth inside a field": b'{"command":"x","env":{"A":' + b"[" * ROOM,
    "huge number": b'{"command":"x","timeoutMs":' + b"9" * ROOM + b"}",
    "huge fraction": b'{"command":"x","timeoutMs":0.' + b"9" * ROOM + b"}",
    "huge exponent": b'{"command":"x","timeoutMs":1e' + b"9" * ROOM + b"}",
    "100,000 unknown names": b"{" + b",".join(b'"k%d":1' % n for n in range(100_000)) + b"}",
    "100,000 variables": b'{"command":"x","env":{'
    + b",".join(b'"k%d":""' % n for n in range(100_000))
    + b"}}",
    "49,000 variables": b'{"command":"x","env":{'
    + b",".join(b'"k%d":""' % n for n in range(49_000))
    + b"}}",
    "repeated names": b'{"command":"x"' + b',"cwd":"y"' * (ROOM // 10) + b"}",
    "some repeated names": b'{"command":"x"' + b',"cwd":"y"' * 49_000 + b"}",
    "repeated variables": b'{"command":"x","env":{' + b'"A":"",' * 49_000 + b'"A":""}}',
    "strings": b'{"command":[' + b'"",' * (ROOM // 3) + b'""]}',
    "arrays": b"[" + b"[]," * (ROOM // 3) + b"[]]",
    "escapes": b'{"command":"' + b"\\\\" * (ROOM // 2),
    "space": b'{"command":5' + b" " * ROOM + b"}",
    "no UTF-8": b'{"command":"' + b"\xff" * ROOM + b'"}',
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_at_little_cost(api: Api, bomb: str) -> None:
    spent = [cost(api, BOMBS[bomb]) for _ in range(3)]

    assert statistics.median(spent) <= MOST_SECONDS, spent


BATCH_BOMBS = {
    "24,000 files": b'{"files":['
    + b'{"path":"a","content":""},' * 24_000
    + b'{"path":"a","content":""}]}',
    "empty files": b'{"files":[' + b"{}," * (ROOM // 3) + b"{}]}",
    "repeated names": b'{"files":[{' + b'"path":"a",' * 49_000 + b'"content":""}]}',
    "depth": b'{"files":' + b'[{"files":' * (ROOM // 11),
    "large numbers": b'{"files":[' + b"9" * ROOM + b"]}",
}


@pytest.mark.parametrize("bomb", BATCH_BOMBS)
def test_a_batch_that_is_a_bomb_is_refused_at_little_cost(api: Api, bomb: str) -> None:
    spent = [cost(api, BATCH_BOMBS[bomb], UNKNOWN_BATCH) for _ in range(3)]

    assert statistics.median(spent) <= MOST_SECONDS, spent


def test_a_bomb_that_is_too_large_is_not_even_read(api: Api) -> None:
    answer = api.call("POST", UNKNOWN, b"[" * (LIMIT + 1), headers=JSON)

    assert (answer.status, answer.error["code"]) == (413, "TOO_LARGE")


JSON = {"Content-Type": "application/json"}


def cost(api: Api, body: bytes, target: str = UNKNOWN) -> float:
    before = processor_seconds(api.server.pid)
    answer = api.call("POST", target, body, headers=JSON)
    assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST"), answer.body
    return processor_seconds(api.server.pid) - before


def processor_seconds(pid: int) -> float:
    """What a process has used so far, for itself and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK
