# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

import atoll
from atoll import AsyncAtoll, AsyncSandbox
from tests.support.scripted_server import Answer, ScriptedServer, answer_error, answer_json

CODES = [
    ("INVALID_CONFIG", 400, atoll.InvalidConfig),
    ("INVALID_REQUEST", 400, atoll.InvalidRequest),
    ("UNAUTHORIZED", 401, atoll.Unauthorized),
    ("FORBIDDEN", 403, atoll.Forbidden),
    ("NOT_FOUND", 404, atoll.NotFound),
    ("SANDBOX_NOT_FOUND", 404, atoll.SandboxNotFound),
    ("FILE_NOT_FOUND", 404, atoll.FileNotFound),
    ("SANDBOX_NOT_RUNNING", 409, atoll.SandboxNotRunning),
    ("SANDBOX_FAILED", 409, atoll.SandboxFailed),
    ("FILE_ERROR", 409, atoll.FileError),
    ("TOO_LARGE", 413, atoll.TooLarge),
    ("COMMAND_NOT_STARTED", 422, atoll.CommandNotStarted),
    ("RATE_LIMITED", 429, atoll.RateLimited),
    ("INTERNAL", 500, atoll.Internal),
    ("RESOURCE_EXHAUSTED", 503, atoll.ResourceExhausted),
    ("RUNTIME_UNAVAILABLE", 503, atoll.RuntimeUnavailable),
    ("SOMETHING_NEW", 418, atoll.Error),
]


@pytest.mark.parametrize(("code", "status", "error_type"), CODES)
async def test_each_code_is_an_error_of_its_own(
    sandbox: AsyncSandbox,
    scripted: ScriptedServer,
    code: str,
    status: int,
    error_type: type[atoll.Error],
) -> None:
    scripted.script += [answer_error(code, status)]

    with pytest.raises(atoll.Error) as caught:
        await sandbox.exec("true")

    error = caught.value
    assert type(error) is error_type
    assert (error.code, error.message, error.request_id) == (code, f"it is {code}", "req_1")
    assert not error.retryable


async def test_retryable_is_what_the_server_says(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_error("SOMETHING_NEW", 503, retryable=True)]

    with pytest.raises(atoll.Error) as caught:
        await sandbox.exec("true")

    assert caught.value.retryable


async def test_reason_comes_along(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    scripted.script += [answer_error("COMMAND_NOT_STARTED", 422, reason="not_found")]

    with pytest.raises(atoll.CommandNotStarted) as caught:
        await sandbox.exec(["nosuch"])

    assert caught.value.reason == "not_found"


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        (302, atoll.ProtocolError),
        (401, atoll.Unauthorized),
        (403, atoll.Forbidden),
        (404, atoll.ProtocolError),
        (502, atoll.Internal),
    ],
)
@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"error": 1}', b'{"error": {}}', b"[" * 5000, b"\xff"]
)
async def test_an_answer_of_another_program_is_understood_by_its_status(
    sandbox: AsyncSandbox,
    scripted: ScriptedServer,
    status: int,
    error_type: type[atoll.Error],
    body: bytes,
) -> None:
    scripted.script += [Answer(status, body, {"X-Request-Id": "req_2"})]

    with pytest.raises(atoll.Error) as caught:
        await sandbox.exec("true")

    assert type(caught.value) is error_type
    assert caught.value.request_id == "req_2"


@pytest.mark.parametrize(
    "body", [b"", b"hello", b"[]", b"{}", b'{"id": 1}', b'{"id": "x", "state": "flying"}']
)
async def test_a_success_that_is_no_record_is_a_protocol_error(
    client: AsyncAtoll, scripted: ScriptedServer, body: bytes
) -> None:
    scripted.script += [Answer(200, body)]

    with pytest.raises(atoll.ProtocolError):
        await client.sandboxes.get("sb_0123456789")


async def test_members_of_a_later_server_are_ignored(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    health = {"status": "ok", "version": "v1", "timestamp": "now", "mood": "fine"}
    scripted.script += [answer_json(health)]

    assert (await client.health()).status == "ok"


async def test_an_endless_error_body_is_not_read_to_its_end(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [Answer(500, pieces=(bytes(1 << 20), bytes(1 << 20)), hang=True)]

    with pytest.raises(atoll.Internal):
        await sandbox.exec("true")

    assert scripted.left.wait(5)
