# SPDX-License-Identifier: Apache-2.0
"""How a client is configured, and what it sends again: items 1 to 8 of the checklist."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll import AsyncAtoll, Internal, InvalidConfig, SandboxNotFound, Unauthorized
from tests.support.scripted_server import (
    Answer,
    ScriptedServer,
    answer_error,
    answer_json,
    scripted_server,
)
from tests.support.server import ServerProcess
from tests.unit.sdk import samples

CREATED = answer_json(samples.sandbox(), 201)
NO_SANDBOXES = answer_json(samples.page(total=0))
BROKEN = answer_error("INTERNAL", 500, retryable=True)


@contextlib.contextmanager
def scripted(*answers: Answer) -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        server.script += answers
        yield server


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable, no home and no working directory of whoever runs the tests."""
    for name in ("URL", "API_KEY", "DEFAULT_IMAGE", "DEFAULT_CPU", "CLIENT_CONFIG"):
        monkeypatch.delenv(f"ATOLL_{name}", raising=False)
    for name in ("API_URL", "API_KEY", "DEFAULT_IMAGE", "DEFAULT_CPU"):
        monkeypatch.delenv(f"RUNRA_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def keys_of(server: ScriptedServer) -> list[str]:
    return [asked.headers["authorization"] for asked in server.asked]


async def test_nested_configuration_works(server: ServerProcess) -> None:
    """Item 1."""
    async with AsyncAtoll(
        sandbox={
            "provider": "runra-sandbox",
            "api_key": server.api_key,
            "api_url": server.url,
            "defaults": {"image": "host", "resources": {"cpu": 4}, "timeout_ms": 60_000},
        },
        observability={"provider": "axiom", "token": "t", "dataset": "runra-events"},
    ) as client:
        async with await client.sandboxes.create() as sandbox:
            assert sandbox.resources.cpu == 4
            assert sandbox.info.timeout_ms == 60_000


async def test_flat_configuration_works(server: ServerProcess) -> None:
    """Items 2 and 6."""
    async with AsyncAtoll(
        api_key=server.api_key, api_url=server.url, timeout_ms=10_000, max_retries=1
    ) as client:
        assert (await client.health()).status == "ok"
        assert (await client.sandboxes.list(limit=1)).total >= 0


@pytest.mark.parametrize(
    ("url", "key"), [("ATOLL_URL", "ATOLL_API_KEY"), ("RUNRA_API_URL", "RUNRA_API_KEY")]
)
async def test_environment_says_where_and_who(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, url: str, key: str
) -> None:
    """Item 3."""
    monkeypatch.setenv(url, server.url)
    monkeypatch.setenv(key, server.api_key)

    async with AsyncAtoll() as client:
        assert client.api_url == server.url
        assert (await client.sandboxes.list(limit=1)).total >= 0


async def test_constructor_beats_environment_beats_file(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Item 4."""
    (tmp_path / "atoll.toml").write_text(
        'api_url = "http://127.0.0.1:1"\napi_key = "file"\nmax_retries = 0\n'
    )
    async with AsyncAtoll() as by_file:
        assert by_file.api_url == "http://127.0.0.1:1"

    monkeypatch.setenv("ATOLL_URL", "http://127.0.0.1:2")
    monkeypatch.setenv("ATOLL_API_KEY", "environment")
    async with AsyncAtoll() as by_environment:
        assert by_environment.api_url == "http://127.0.0.1:2"

    async with AsyncAtoll(api_url=server.url, api_key=server.api_key) as by_constructor:
        assert by_constructor.api_url == server.url
        assert (await by_constructor.health()).status == "ok"


async def test_defaults_fill_what_a_call_leaves_out_key_by_key() -> None:
    """Item 5."""
    defaults: dict[str, Any] = {
        "image": "host",
        "resources": {"cpu": 4, "memory_mb": 2048},
        "env": {"A": "default", "B": "default"},
        "timeout_ms": 60_000,
    }
    with scripted(CREATED, CREATED) as server:
        async with AsyncAtoll(server.url, "key", sandbox={"defaults": defaults}) as client:
            await client.sandboxes.create()
            await client.sandboxes.create("other", resources={"cpu": 8}, env={"B": "call"})

    plain, with_call = (asked.json for asked in server.asked)
    assert plain == {
        "image": "host",
        "resources": {"cpu": 4, "memoryMb": 2048},
        "env": {"A": "default", "B": "default"},
        "timeoutMs": 60_000,
    }
    assert with_call == {
        "image": "other",
        "resources": {"cpu": 8, "memoryMb": 2048},
        "env": {"A": "default", "B": "call"},
        "timeoutMs": 60_000,
    }


async def test_two_clients_do_not_share_keys_or_servers(server: ServerProcess) -> None:
    """Item 7."""
    pages = [NO_SANDBOXES] * 2
    with scripted(*pages) as one, scripted(*pages) as two:
        async with (
            AsyncAtoll(one.url, "key-of-one-0123456789abc") as first,
            AsyncAtoll(two.url, "key-of-two-0123456789abc") as second,
        ):
            await first.sandboxes.list()
            await second.sandboxes.list()
            await first.sandboxes.list()

    assert keys_of(one) == ["Bearer key-of-one-0123456789abc"] * 2
    assert keys_of(two) == ["Bearer key-of-two-0123456789abc"]


async def test_a_key_is_never_shown_whole(server: ServerProcess) -> None:
    key = "rra_live_0123456789abcdefghijklmnopqrstuv"
    async with AsyncAtoll(server.url, key) as client:
        with pytest.raises(Unauthorized) as raised:
            await client.sandboxes.list()

        assert key not in repr(client) + client.api_key + str(raised.value) + repr(raised.value)


async def test_a_broken_server_is_asked_three_times(server: ServerProcess) -> None:
    """Item 8."""
    with scripted(*[BROKEN] * 4) as broken, scripted(BROKEN, BROKEN, NO_SANDBOXES) as ill:
        async with AsyncAtoll(broken.url, "key") as client:
            with pytest.raises(Internal) as raised:
                await client.sandboxes.list()
        async with AsyncAtoll(ill.url, "key") as client:
            assert (await client.sandboxes.list()).total == 0

    assert raised.value.retryable
    assert len(broken.asked) == 3
    assert len(ill.asked) == 3


async def test_max_retries_says_how_often() -> None:
    with scripted(BROKEN, BROKEN) as broken:
        async with AsyncAtoll(broken.url, "key", max_retries=0) as client:
            with pytest.raises(Internal):
                await client.sandboxes.list()

    assert len(broken.asked) == 1


async def test_what_is_the_callers_fault_is_not_sent_again() -> None:
    """Item 8."""
    refusal = answer_error("SANDBOX_NOT_FOUND", 404)
    with scripted(refusal, refusal) as server:
        async with AsyncAtoll(server.url, "key") as client:
            with pytest.raises(SandboxNotFound):
                await client.sandboxes.get("sb_0123456789")

    assert len(server.asked) == 1


@pytest.mark.parametrize("on_stdout", [None, len], ids=["buffered", "streamed"])
async def test_a_command_is_never_sent_again(on_stdout: Any) -> None:
    """Item 8."""
    with scripted(CREATED, BROKEN, BROKEN) as server:
        async with AsyncAtoll(server.url, "key") as client:
            sandbox = await client.sandboxes.create("host")
            with pytest.raises(Internal):
                await sandbox.exec("true", on_stdout=on_stdout)

    assert len(server.asked) == 2


async def test_a_creation_that_may_have_happened_is_not_sent_again() -> None:
    full = answer_error("RESOURCE_EXHAUSTED", 503, retryable=True)
    with scripted(BROKEN, BROKEN) as broken, scripted(full, CREATED) as busy:
        async with AsyncAtoll(broken.url, "key") as client:
            with pytest.raises(Internal):
                await client.sandboxes.create("host")
        async with AsyncAtoll(busy.url, "key") as client:
            await client.sandboxes.create("host")

    assert len(broken.asked) == 1
    assert len(busy.asked) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"api_url": "ftp://host", "api_key": "k"},
        {"api_url": "http://user:password@host", "api_key": "k"},
        {"api_url": "http://host"},
        {"api_key": "k"},
        {"api_url": "http://host", "api_key": "k", "timeout_ms": 0},
        {"api_url": "http://host", "api_key": "k", "max_retries": -1},
        {"api_url": "http://host", "api_key": "a\nb"},
        {"api_url": "http://host", "api_key": "k", "sandbox": {"nonsense": 1}},
        {"api_url": "http://host", "api_key": "k", "defaults": {"nonsense": 1}},
    ],
    ids=str,
)
async def test_a_client_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig):
        AsyncAtoll(**options)


async def test_a_wrong_key_is_unauthorized(server: ServerProcess) -> None:
    async with AsyncAtoll(server.url, "wrong") as client:
        with pytest.raises(Unauthorized) as raised:
            await client.sandboxes.list()

    assert (raised.value.code, raised.value.retryable) == ("UNAUTHORIZED", False)


async def test_a_unix_socket_is_a_url_too(server: ServerProcess) -> None:
    async with AsyncAtoll(f"unix://{server.socket}", server.api_key) as client:
        assert (await client.health()).status == "ok"
        with pytest.raises(Unauthorized):
            async with AsyncAtoll(f"unix://{server.socket}", "wrong") as other:
                await other.sandboxes.list()
