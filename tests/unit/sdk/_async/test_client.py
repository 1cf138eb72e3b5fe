# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

import atoll
from atoll import AsyncAtoll
from tests.support.scripted_server import Answer, ScriptedServer, answer_json

KEY = "rra_live_0123456789abcdef"
HEALTH = answer_json({"status": "ok", "version": "v1", "timestamp": "2026-01-02T03:04:05Z"})


async def test_every_request_carries_the_key_and_who_asks(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [HEALTH]

    await client.health()

    headers = scripted.asked[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["host"] == "localhost"
    assert headers["user-agent"] == f"atoll-python/{atoll.__version__}"


async def test_the_key_is_shown_masked_only(client: AsyncAtoll, scripted: ScriptedServer) -> None:
    assert client.api_key == "rra_…cdef"
    assert client.api_url == scripted.url
    assert KEY not in repr(client)
    assert "0123456789" not in str(vars(client))


async def test_two_clients_keep_their_keys_apart(scripted: ScriptedServer) -> None:
    scripted.script += [HEALTH] * 3

    async with AsyncAtoll(scripted.url, "one") as one, AsyncAtoll(scripted.url, "two") as two:
        await one.health()
        await two.health()
        await one.health()

    keys = [asked.headers["authorization"] for asked in scripted.asked]
    assert keys == ["Bearer one", "Bearer two", "Bearer one"]


async def test_the_environment_names_the_server(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATOLL_URL", scripted.url)
    monkeypatch.setenv("ATOLL_API_KEY", "from-env")
    scripted.script += [HEALTH]

    async with AsyncAtoll() as client:
        await client.health()

    assert scripted.asked[0].headers["authorization"] == "Bearer from-env"


async def test_a_closed_client_says_so(scripted: ScriptedServer) -> None:
    client = AsyncAtoll(scripted.url, "k")

    await client.aclose()
    await client.aclose()

    with pytest.raises(atoll.InvalidRequest, match="closed"):
        await client.health()


async def test_observability_is_kept(scripted: ScriptedServer) -> None:
    options = {"provider": "axiom", "token": "t"}

    async with AsyncAtoll(scripted.url, "k", observability=options) as client:
        assert client.observability == options


async def test_connections_are_used_again(client: AsyncAtoll, scripted: ScriptedServer) -> None:
    scripted.script += [HEALTH] * 5

    for _ in range(5):
        await client.health()

    assert scripted.connections == 1


async def test_a_silent_server_is_a_timeout(scripted: ScriptedServer) -> None:
    scripted.script += [Answer(status=0, hang=True)]

    async with AsyncAtoll(scripted.url, "k", timeout_ms=20) as client:
        with pytest.raises(atoll.Timeout):
            await client.sandboxes.get("sb_0123456789")

    assert len(scripted.asked) == 1, "a timeout is not tried again"
