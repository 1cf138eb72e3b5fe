# SPDX-License-Identifier: Apache-2.0
import asyncio
import base64
from typing import Any

import pytest

from atoll_server.api.routing import LARGE_BODY_LIMIT
from atoll_server.api.settings import ApiSettings
from atoll_server.engine.model import Command, State
from tests.unit.api.memory import KEY, Answered, Client, Exchange, answered, make_scope

pytestmark = pytest.mark.anyio


async def execute(client: Client, body: Any, **headers: str) -> Answered:
    sandbox_id = await client.create()
    return await client.request(
        "POST", f"/v1/sandboxes/{sandbox_id}/execute", body, headers=headers
    )


async def test_result_has_the_documented_fields() -> None:
    answer = await execute(Client(), {"command": "hello"})

    assert answer.status == 200
    assert answer.json == {
        "stdout": "hello\n",
        "stderr": "",
        "exitCode": 0,
        "signal": None,
        "durationMs": 12,
        "timedOut": False,
        "oomKilled": False,
        "truncated": False,
    }


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["fail", "3"], {"stderr": "no\n", "exitCode": 3, "signal": None}),
        (["signal", "9"], {"exitCode": 137, "signal": "SIGKILL", "timedOut": False}),
        (["signal", "15"], {"exitCode": 143, "signal": "SIGTERM"}),
        (["signal", "64"], {"exitCode": 192, "signal": "SIGRTMAX"}),
        (["signal", "40"], {"exitCode": 168, "signal": "SIG40"}),
        (["timeout", "killed"], {"exitCode": None, "signal": "SIGKILL", "timedOut": True}),
        (["timeout"], {"exitCode": None, "signal": "SIGTERM", "timedOut": True}),
    ],
)
async def test_every_end_is_a_result(command: list[str], expected: dict[str, Any]) -> None:
    answer = await execute(Client(), {"command": command})

    assert answer.status == 200
    assert expected.items() <= answer.json.items()


async def test_output_that_is_not_utf8_is_replaced() -> None:
    answer = await execute(Client(), {"command": ["say", "a\xffb"]})

    assert answer.json["stdout"] == "a\N{REPLACEMENT CHARACTER}b"


async def test_command_is_what_was_asked_for() -> None:
    client = Client()

    await execute(
        client,
        {
            "command": ["cat"],
            "cwd": "sub",
            "env": {"A": ""},
            "runAs": "user",
            "stdin": base64.b64encode(b"\xff\0").decode(),
            "stdinEncoding": "base64",
            "timeoutMs": 1500,
        },
    )

    assert client.engine.commands == [
        Command(line=("cat",), cwd="sub", env={"A": ""}, user="user", stdin=b"\xff\0", timeout=1.5)
    ]


async def test_stdin_reaches_the_command() -> None:
    answer = await execute(Client(), {"command": ["cat"], "stdin": "grüße\n"})

    assert answer.json["stdout"] == "grüße\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"command": []}, "must have 1 to 65536 entries; got 0"),
        ({"command": None}, "`command`: expected str | array, got null"),
        ({"command": {"a": 1}}, "`command`: expected str | array, got object"),
        ({"command": "x", "user": "a", "runAs": "b"}, "`user` and `runAs` mean the same"),
        ({"command": "x", "stdin": "é", "stdinEncoding": "base64"}, "`stdin` is not base64"),
        ({"command": "x", "stdin": "YQ", "stdinEncoding": "base64"}, "`stdin` is not base64"),
        ({"command": "x", "timeoutMs": 300_001}, "`timeoutMs` must be 1 to 300000"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_bad_command_is_refused_and_nothing_runs(
    body: dict[str, Any], message: str, accept: str
) -> None:
    client = Client()

    answer = await execute(client, body, accept=accept)

    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert message in answer.json["error"]["message"]
    assert not client.engine.commands


async def test_server_may_allow_less_time() -> None:
    client = Client(settings=ApiSettings(max_command_timeout_ms=1000))

    assert (await execute(client, {"command": "x", "timeoutMs": 1001})).code == "INVALID_REQUEST"


async def test_stdin_may_be_large_and_the_body_not_larger_than_its_limit() -> None:
    fits = {"command": ["cat"], "stdin": "x" * (LARGE_BODY_LIMIT - 100)}
    too_large = {"command": ["cat"], "stdin": "x" * LARGE_BODY_LIMIT}

    assert (await execute(Client(), fits)).status == 200
    assert (await execute(Client(), too_large)).code == "TOO_LARGE"


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        (State.PAUSED, 409, "SANDBOX_NOT_RUNNING"),
        (State.TERMINATED, 404, "SANDBOX_NOT_FOUND"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_command_in_a_sandbox_that_does_not_run_is_refused(
    state: State, status: int, code: str, accept: str
) -> None:
    client = Client()
    sandbox_id = await client.create()
    client.engine.change(sandbox_id, state)

    answer = await client.request(
        "POST", f"/v1/sandboxes/{sandbox_id}/execute", {"command": "x"}, headers={"accept": accept}
    )

    assert (answer.status, answer.code) == (status, code)
    assert not client.engine.commands


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/x-ndjson",
        "text/event-stream",
        "application/vnd.atoll.frames",
    ],
)
async def test_command_that_cannot_start_is_an_error_in_every_form(accept: str) -> None:
    answer = await execute(Client(), {"command": ["missing"]}, accept=accept)

    assert (answer.status, answer.code) == (422, "COMMAND_NOT_STARTED")
    assert answer.json["error"]["reason"] == "not_found"


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/x-ndjson",
        "text/event-stream",
        "application/vnd.atoll.frames",
    ],
)
async def test_command_is_killed_when_the_client_goes_away(accept: str) -> None:
    client = Client()
    sandbox_id = await client.create()
    exchange = Exchange([b'{"command":["sleep"]}'])
    scope = make_scope("POST", f"/v1/sandboxes/{sandbox_id}/execute", {"accept": accept}, KEY)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(client.call(scope, exchange))
        await client.engine.commanded.wait()
        exchange.gone.set()

    assert client.engine.left_early == client.engine.commands


async def test_request_cut_off_before_its_end_does_nothing() -> None:
    client = Client()
    sandbox_id = await client.create()
    exchange = Exchange([b'{"command":"x"}'], ends_body=False)
    exchange.gone.set()

    await client.call(make_scope("POST", f"/v1/sandboxes/{sandbox_id}/execute", {}, KEY), exchange)

    assert not exchange.sent
    assert not client.engine.commands


async def test_create_is_given_up_when_the_client_goes_away() -> None:
    client = Client()
    given_up = asyncio.Event()

    async def never(_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    client.engine.create = never  # type: ignore[method-assign, assignment] # an engine that takes its time
    exchange = Exchange([b'{"image":"host"}'])
    exchange.gone.set()

    await client.call(make_scope("POST", "/v1/sandboxes", {}, KEY), exchange)

    assert given_up.is_set()


async def test_head_of_a_request_is_answered_like_its_get() -> None:
    exchange = Exchange([b""])

    await Client().call(make_scope("HEAD", "/v1/health", {}, None), exchange)

    assert answered(exchange).status == 200
