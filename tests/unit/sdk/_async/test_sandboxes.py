# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

import atoll
from atoll import AsyncAtoll, AsyncSandbox
from tests.support.scripted_server import Answer, ScriptedServer, answer_error, answer_json
from tests.unit.sdk import samples

CREATED = answer_json(samples.sandbox(), 201)
ENDED = samples.sandbox(state="terminated", terminatedAt="2026-01-02T03:05:00.000Z", reason="user")


async def test_create_gives_a_handle_that_shows_everything(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [CREATED]

    sandbox = await client.sandboxes.create("host")

    assert sandbox.id == "sb_0123456789"
    assert sandbox.state is atoll.SandboxState.RUNNING
    assert sandbox.image == "host"
    assert sandbox.runtime is atoll.Runtime.CONTAINER
    assert sandbox.isolation == "namespaces"
    assert sandbox.resources == atoll.Resources(2, 4096, 10240, pids=4096, open_files=65536)
    assert sandbox.env == {"A": "1"}
    assert sandbox.metadata == {"team": "blue"}
    assert sandbox.workdir == "/workspace"
    assert sandbox.created_at == "2026-01-02T03:04:05.678Z"
    assert sandbox.started_at == "2026-01-02T03:04:05.700Z"
    assert (sandbox.paused_at, sandbox.terminated_at, sandbox.reason) == (None, None, None)
    assert repr(sandbox) == f"<{type(sandbox).__name__} sb_0123456789 running host container>"


async def test_create_says_only_what_was_given(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [CREATED, CREATED]

    await client.sandboxes.create()
    await client.sandboxes.create(
        "host",
        resources={"cpu": 4},
        memory_mb=2048,
        env={"A": "1"},
        workdir="/w",
        timeout_ms=1,
        idle_timeout_ms=2,
        metadata={"k": "v"},
        runtime="gvisor",
    )

    assert scripted.asked[0].json == {}
    assert scripted.asked[1].json == {
        "image": "host",
        "resources": {"cpu": 4, "memoryMb": 2048},
        "env": {"A": "1"},
        "workdir": "/w",
        "timeoutMs": 1,
        "idleTimeoutMs": 2,
        "metadata": {"k": "v"},
        "runtime": "gvisor",
    }


async def test_defaults_fill_what_create_leaves_out_key_by_key(scripted: ScriptedServer) -> None:
    scripted.script += [CREATED]
    nested = {
        "provider": "atoll",
        "api_url": scripted.url,
        "api_key": "k",
        "defaults": {
            "image": "host",
            "resources": {"cpu": 2, "memory_mb": 2048},
            "timeout_ms": 300_000,
            "idle_timeout_ms": 120_000,
        },
    }

    async with AsyncAtoll(sandbox=nested) as client:
        await client.sandboxes.create(resources={"cpu": 8}, timeout_ms=1000)

    assert scripted.asked[0].json == {
        "image": "host",
        "resources": {"cpu": 8, "memoryMb": 2048},
        "timeoutMs": 1000,
        "idleTimeoutMs": 120_000,
    }


async def test_flat_limits_win_over_resources(client: AsyncAtoll, scripted: ScriptedServer) -> None:
    scripted.script += [CREATED]

    await client.sandboxes.create("host", resources=atoll.Resources(cpu=2), cpu=8, disk_mb=5120)

    assert scripted.asked[0].json["resources"] == {"cpu": 8, "memoryMb": 4096, "diskMb": 5120}


async def test_unknown_limits_are_refused_before_anything_is_sent(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    with pytest.raises(atoll.InvalidConfig, match="gpu"):
        await client.sandboxes.create("host", resources={"gpu": 1})

    assert scripted.asked == []


@pytest.mark.parametrize("sandbox_id", ["", None, 5, "\udcff"])
async def test_get_refuses_what_is_no_id(
    client: AsyncAtoll, scripted: ScriptedServer, sandbox_id: str
) -> None:
    with pytest.raises(atoll.InvalidRequest):
        await client.sandboxes.get(sandbox_id)

    assert scripted.asked == []


async def test_an_id_cannot_lead_to_another_route(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_error("SANDBOX_NOT_FOUND", 404)]

    with pytest.raises(atoll.SandboxNotFound):
        await client.sandboxes.get("../health?x=1#\r\nX: y")

    assert scripted.asked[0].target == "/v1/sandboxes/..%2Fhealth%3Fx%3D1%23%0D%0AX%3A%20y"


async def test_list_filters_travel_in_the_query(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_json(samples.page(total=0))]

    await client.sandboxes.list(
        state=atoll.SandboxState.RUNNING, metadata={"a b": "c&d"}, limit=20, offset=40
    )

    assert scripted.asked[0].path == "/v1/sandboxes"
    assert scripted.asked[0].query == {
        "state": "running",
        "limit": "20",
        "offset": "40",
        "metadata[a b]": "c&d",
    }


async def test_list_goes_on_to_the_last_page_and_repeats_nothing(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    one, two, three = (samples.sandbox(id=f"sb_{number}") for number in "123")
    scripted.script += [
        answer_json(samples.page(one, two, total=4)),
        answer_json(samples.page(two, three, total=4, offset=2)),
    ]

    found = await client.sandboxes.list(state="running")

    assert (found.total, found.has_more) == (4, True)
    assert [sandbox.id for sandbox in found.items] == ["sb_1", "sb_2"]
    assert [sandbox.id async for sandbox in found] == ["sb_1", "sb_2", "sb_3"]
    assert scripted.asked[1].query == {"state": "running", "limit": "100", "offset": "2"}


async def test_list_with_a_limit_is_one_page(client: AsyncAtoll, scripted: ScriptedServer) -> None:
    scripted.script += [answer_json(samples.page(samples.sandbox(), total=4, limit=1))]

    found = await client.sandboxes.list(limit=1)

    assert [sandbox.id async for sandbox in found] == ["sb_0123456789"]
    assert found.has_more
    assert len(scripted.asked) == 1


async def test_an_empty_page_ends_a_list_whatever_it_says(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_json(samples.page(total=4))]

    assert [sandbox.id async for sandbox in await client.sandboxes.list()] == []


async def test_refresh_brings_the_handle_up_to_date(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_json(ENDED)]

    await sandbox.refresh()

    assert sandbox.state == "terminated"
    assert sandbox.reason == "user"


@pytest.mark.parametrize(
    "answer",
    [answer_json(ENDED), Answer(204), answer_error("SANDBOX_NOT_FOUND", 404)],
    ids=["record", "nothing", "long gone"],
)
async def test_terminate_makes_the_state_terminated(
    sandbox: AsyncSandbox, scripted: ScriptedServer, answer: Answer
) -> None:
    scripted.script += [answer, answer]

    await sandbox.terminate()
    await sandbox.terminate()

    assert sandbox.state is atoll.SandboxState.TERMINATED
    assert [asked.method for asked in scripted.asked] == ["DELETE", "DELETE"]


async def test_a_block_terminates_its_sandbox_also_when_it_raises(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [CREATED, answer_json(ENDED)]

    with pytest.raises(RuntimeError, match="work"):
        async with await client.sandboxes.create("host") as sandbox:
            raise RuntimeError("work")

    assert sandbox.state == "terminated"
    assert scripted.asked[-1].method == "DELETE"


async def test_failing_to_terminate_does_not_hide_the_first_error(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [CREATED, answer_error("FORBIDDEN", 403)]

    with pytest.raises(RuntimeError, match="work") as caught:
        async with await client.sandboxes.create("host"):
            raise RuntimeError("work")

    assert "sb_0123456789 was not terminated" in caught.value.__notes__[0]


async def test_failing_to_terminate_is_raised_where_nothing_else_was(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [CREATED, answer_error("FORBIDDEN", 403)]

    with pytest.raises(atoll.Forbidden):
        async with await client.sandboxes.create("host"):
            pass
