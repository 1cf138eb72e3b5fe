# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

import atoll
from atoll import AsyncAtoll, AsyncSandbox
from tests.support.scripted_server import (
    HANG_UP,
    Answer,
    ScriptedServer,
    answer_error,
    answer_json,
)
from tests.unit.sdk import samples

AT_ONCE = {"Retry-After": "0"}
BUSY = answer_error("RESOURCE_EXHAUSTED", 503, retryable=True, headers=AT_ONCE)
BROKEN = answer_error("INTERNAL", 500, retryable=True, headers=AT_ONCE)
TOO_MANY = answer_error("RATE_LIMITED", 429, retryable=True, headers=AT_ONCE)
WRITTEN = answer_json({"path": "/workspace/a", "sizeBytes": 1, "created": True})


async def test_get_is_sent_again_after_a_retryable_5xx(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [BROKEN, BUSY, answer_json(samples.sandbox())]

    sandbox = await client.sandboxes.get("sb_0123456789")

    assert sandbox.id == "sb_0123456789"
    assert len(scripted.asked) == 3


async def test_get_gives_up_after_two_retries(client: AsyncAtoll, scripted: ScriptedServer) -> None:
    scripted.script += [BROKEN] * 5

    with pytest.raises(atoll.Internal):
        await client.sandboxes.get("sb_0123456789")

    assert len(scripted.asked) == 3


async def test_max_retries_of_zero_sends_once(scripted: ScriptedServer) -> None:
    scripted.script += [BROKEN] * 2

    async with AsyncAtoll(scripted.url, "k", max_retries=0) as client:
        with pytest.raises(atoll.Internal):
            await client.sandboxes.get("sb_0123456789")

    assert len(scripted.asked) == 1


async def test_get_is_not_sent_again_after_a_4xx(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_error("SANDBOX_NOT_FOUND", 404)]

    with pytest.raises(atoll.SandboxNotFound):
        await client.sandboxes.get("sb_0123456789")

    assert len(scripted.asked) == 1


async def test_get_is_not_sent_again_after_a_5xx_that_is_final(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_error("RUNTIME_UNAVAILABLE", 503)]

    with pytest.raises(atoll.RuntimeUnavailable):
        await client.sandboxes.get("sb_0123456789")

    assert len(scripted.asked) == 1


async def test_get_is_sent_again_when_the_connection_is_lost(
    scripted: ScriptedServer, sandbox: AsyncSandbox
) -> None:
    scripted.script += [HANG_UP, answer_json(samples.sandbox(state="paused"))]

    await sandbox.refresh()

    assert sandbox.state == "paused"
    assert len(scripted.asked) == 2


async def test_a_wait_that_is_asked_to_be_too_long_is_not_begun(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [
        answer_error("RATE_LIMITED", 429, retryable=True, headers={"Retry-After": "3600"})
    ]

    with pytest.raises(atoll.RateLimited):
        await client.sandboxes.get("sb_0123456789")

    assert len(scripted.asked) == 1


@pytest.mark.parametrize("answer", [BROKEN, BUSY, TOO_MANY, HANG_UP])
@pytest.mark.parametrize("live", [False, True])
async def test_exec_is_never_sent_again(
    scripted: ScriptedServer, sandbox: AsyncSandbox, answer: Answer, live: bool
) -> None:
    scripted.script += [answer] * 3

    with pytest.raises(atoll.Error):
        await sandbox.exec("rm x", on_stdout=print if live else None)

    assert len(scripted.asked) == 1


@pytest.mark.parametrize("answer", [BUSY, TOO_MANY])
async def test_create_is_sent_again_when_there_was_no_room(
    client: AsyncAtoll, scripted: ScriptedServer, answer: Answer
) -> None:
    scripted.script += [answer, answer_json(samples.sandbox(), 201)]

    await client.sandboxes.create("host")

    assert len(scripted.asked) == 2


@pytest.mark.parametrize("answer", [BROKEN, HANG_UP])
async def test_create_is_not_sent_again_when_it_may_have_worked(
    client: AsyncAtoll, scripted: ScriptedServer, answer: Answer
) -> None:
    scripted.script += [answer] * 3

    with pytest.raises(atoll.Error):
        await client.sandboxes.create("host")

    assert len(scripted.asked) == 1


async def test_write_is_sent_again_and_whole(
    scripted: ScriptedServer, sandbox: AsyncSandbox
) -> None:
    scripted.script += [BROKEN, WRITTEN]

    await sandbox.files.write("a", b"x")

    assert [asked.body for asked in scripted.asked] == [b"x", b"x"]


async def test_append_is_not_sent_again(scripted: ScriptedServer, sandbox: AsyncSandbox) -> None:
    scripted.script += [BROKEN] * 3

    with pytest.raises(atoll.Internal):
        await sandbox.files.append("a", b"x")

    assert len(scripted.asked) == 1


async def test_upload_of_an_iterable_is_not_sent_again(
    scripted: ScriptedServer, sandbox: AsyncSandbox
) -> None:
    scripted.script += [BROKEN] * 3

    with pytest.raises(atoll.Internal):
        await sandbox.files.upload(iter([b"a", b"b"]), "a")

    assert [asked.body for asked in scripted.asked] == [b"ab"]


async def test_nothing_listening_is_connect_failed() -> None:
    async with AsyncAtoll("http://127.0.0.1:1", "k", max_retries=0) as client:
        with pytest.raises(atoll.ConnectFailed) as caught:
            await client.sandboxes.create("host")

    assert caught.value.retryable
    assert "http://127.0.0.1:1" in caught.value.message
