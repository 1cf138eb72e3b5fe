# SPDX-License-Identifier: Apache-2.0
"""Records as the server sends them."""

from __future__ import annotations

import json
import struct
from typing import Any

INSTANT = "2026-01-02T03:04:05.678Z"


def sandbox(**changes: Any) -> dict[str, Any]:
    return {
        "id": "sb_0123456789",
        "state": "running",
        "image": "host",
        "runtime": "container",
        "isolation": "namespaces",
        "resources": {
            "cpu": 2,
            "memoryMb": 4096,
            "diskMb": 10240,
            "pids": 4096,
            "openFiles": 65536,
        },
        "env": {"A": "1"},
        "metadata": {"team": "blue"},
        "workdir": "/workspace",
        "timeoutMs": 300000,
        "idleTimeoutMs": 120000,
        "createdAt": "2026-01-02T03:04:05.678Z",
        "startedAt": "2026-01-02T03:04:05.700Z",
        "pausedAt": None,
        "terminatedAt": None,
        "reason": None,
        "detail": None,
        "network": None,
        "secrets": {},
        **changes,
    }


def metrics(**changes: Any) -> dict[str, Any]:
    return {
        "cpuMs": 1500,
        "cpuThrottledMs": 250,
        "cpuLimit": 0.5,
        "memoryBytes": 300 << 20,
        "memoryHeldBytes": 200 << 20,
        "memoryPeakBytes": None,
        "memoryLimitBytes": 4 << 30,
        "processes": 7,
        "processesLimit": 64,
        "diskBytes": 4096,
        "diskLimitBytes": 8192,
        "oomKills": 2,
        "uptimeMs": 12500,
        "networkReceivedBytes": None,
        "networkSentBytes": None,
        **changes,
    }


def key(**changes: Any) -> dict[str, Any]:
    return {
        "id": "key_0123456789ab",
        "name": "ci",
        "scopes": ["sandbox:read"],
        "source": "created",
        "createdAt": "2026-01-02T03:04:05.678Z",
        "key": None,
        **changes,
    }


def keys(*found: dict[str, Any]) -> dict[str, Any]:
    pagination = {"total": len(found), "limit": 1000, "offset": 0, "hasMore": False}
    return {"data": list(found), "pagination": pagination}


def page(
    *sandboxes: dict[str, Any], total: int, offset: int = 0, limit: int = 100
) -> dict[str, Any]:
    more = offset + len(sandboxes) < total
    pagination = {"total": total, "limit": limit, "offset": offset, "hasMore": more}
    return {"data": list(sandboxes), "pagination": pagination}


def result(**changes: Any) -> dict[str, Any]:
    return {
        "stdout": "",
        "stderr": "",
        "exitCode": 0,
        "signal": None,
        "durationMs": 7,
        "timedOut": False,
        "oomKilled": False,
        "truncated": False,
        **changes,
    }


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "name": "a.txt",
        "path": "/workspace/a.txt",
        "type": "file",
        "isDirectory": False,
        "sizeBytes": 3,
        "mode": "0644",
        "uid": 0,
        "gid": 0,
        "user": "root",
        "group": "root",
        "modifiedAt": "2026-01-02T03:04:05.678Z",
        "target": None,
        **changes,
    }


def frame(kind: int, payload: bytes, offset: int = 0) -> bytes:
    return struct.pack(">IB3sQ", len(payload), kind, b"\0\0\0", offset) + payload


def control(event: str, **members: Any) -> bytes:
    return frame(0, json.dumps({"event": event, **members}).encode())


def exit_frame(**changes: Any) -> bytes:
    return control("exit", **result(**changes))


def process(**changes: Any) -> dict[str, Any]:
    return {
        "id": "proc_01",
        "pid": 42,
        "command": "sleep 9",
        "cwd": "/workspace",
        "user": "root",
        "tag": None,
        "status": "running",
        "exitCode": None,
        "signal": None,
        "startedAt": "2026-01-02T03:04:05.678Z",
        "exitedAt": None,
        "stdoutBytes": 0,
        "stderrBytes": 0,
        "position": 0,
        "firstPosition": 0,
        "stdinOpen": False,
        "pty": None,
        **changes,
    }


def ended_process(**changes: Any) -> dict[str, Any]:
    ended = {"status": "exited", "exitCode": 0, "exitedAt": "2026-01-02T03:04:06.000Z"}
    return process(**{**ended, **changes})


def process_result(**changes: Any) -> dict[str, Any]:
    output = {"stdout": "", "stderr": "", "durationMs": 7, "truncated": False}
    return ended_process(**{**output, "timedOut": False, "oomKilled": False, **changes})


def processes(*found: dict[str, Any], cursor: str | None = None) -> dict[str, Any]:
    pagination = {"limit": 100, "hasMore": cursor is not None, "nextCursor": cursor}
    return {"data": list(found), "pagination": pagination}


def attached(stdout: int = 0, stderr: int = 0, dropped: int = 0) -> bytes:
    position = stdout + stderr
    return control("attached", position=position, stdout=stdout, stderr=stderr, dropped=dropped)


def process_exit(**changes: Any) -> bytes:
    return control("exit", **ended_process(**changes))


def watch(**changes: Any) -> dict[str, Any]:
    return {
        "id": "watch_1",
        "path": "/workspace/src",
        "recursive": False,
        "createdAt": INSTANT,
        "first": 1,
        "last": 0,
        "ended": None,
        **changes,
    }


def port(**changes: Any) -> dict[str, Any]:
    return {
        "sandboxId": "sb_0123456789",
        "port": 3000,
        "url": "http://3000-abc.localhost/",
        "private": False,
        "createdAt": INSTANT,
        "token": None,
        **changes,
    }


def ports(*found: dict[str, Any]) -> dict[str, Any]:
    pagination = {"total": len(found), "limit": 100, "offset": 0, "hasMore": False}
    return {"data": [*found], "pagination": pagination}


def listening(**changes: Any) -> dict[str, Any]:
    return {"port": 3000, "address": "127.0.0.1", "pid": 7, "command": "serve", **changes}


def watches(*found: dict[str, Any]) -> dict[str, Any]:
    pagination = {"total": len(found), "limit": 64, "offset": 0, "hasMore": False}
    return {"data": list(found), "pagination": pagination}


def change(**changes: Any) -> dict[str, Any]:
    return {
        "number": 1,
        "kind": "created",
        "path": "/workspace/src/a",
        "fromPath": None,
        "isDirectory": False,
        "at": INSTANT,
        **changes,
    }


def change_line(**changes: Any) -> bytes:
    return json.dumps({"type": "change", **change(**changes)}).encode() + b"\n"


def end_line(last: int = 0, ended: str | None = "stopped") -> bytes:
    return json.dumps({"type": "end", "last": last, "ended": ended}).encode() + b"\n"


def event(kind: str = "sandbox.started", number: int = 1, data: Any = None) -> dict[str, Any]:
    return {
        "id": f"evt_aaaaaaaaaa_{number}",
        "type": kind,
        "timestamp": INSTANT,
        "sandboxId": "sb_0123456789",
        "traceId": "0" * 32,
        "data": {} if data is None else data,
    }


def event_line(kind: str, number: int, data: Any = None) -> bytes:
    """An event as a stream has it, or the stream's `begin` or `end`."""
    whole = {"type": kind, "id": f"evt_aaaaaaaaaa_{number}"}
    return json.dumps(event(kind, number, data) if "." in kind else whole).encode() + b"\n"
