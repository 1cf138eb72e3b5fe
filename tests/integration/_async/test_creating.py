# SPDX-License-Identifier: Apache-2.0
"""Creating, finding and listing sandboxes: items 9 to 20 of the checklist."""

from __future__ import annotations

import dataclasses
import re
from typing import Any
from uuid import uuid4

import pytest

from atoll import AsyncAtoll, Error, InvalidConfig, Resources, SandboxNotFound
from tests.support.concurrency import async_at_once

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
DAY_MS = 86_400_000


def told(resources: Resources) -> Resources:
    """Without what the server fills in by its own limits."""
    assert resources.pids is not None
    assert resources.open_files is not None
    return dataclasses.replace(resources, pids=None, open_files=None)


async def test_created_sandbox_runs_and_says_everything_of_itself(
    client: AsyncAtoll, runtime: str
) -> None:
    """Items 9 and 10."""
    async with await client.sandboxes.create(
        "host",
        resources={"cpu": 4, "memory_mb": 2048, "disk_mb": 5120},
        env={"A": "1"},
        workdir="/srv/work",
        metadata={"team": "ä"},
        timeout_ms=200_000,
        idle_timeout_ms=100_000,
        runtime=runtime,
    ) as sandbox:
        assert sandbox.id.startswith("sb_")
        assert sandbox.state == "running"
        assert (sandbox.image, sandbox.runtime) == ("host", runtime)
        assert runtime in sandbox.isolation
        assert told(sandbox.resources) == Resources(cpu=4, memory_mb=2048, disk_mb=5120)
        assert (sandbox.env, sandbox.metadata) == ({"A": "1"}, {"team": "ä"})
        assert sandbox.workdir == "/srv/work"
        assert (sandbox.info.timeout_ms, sandbox.info.idle_timeout_ms) == (200_000, 100_000)
        assert INSTANT.fullmatch(sandbox.created_at)
        assert INSTANT.fullmatch(sandbox.started_at or "")
        assert sandbox.created_at <= (sandbox.started_at or "")
        assert sandbox.paused_at is None
        assert sandbox.terminated_at is None
        assert sandbox.reason is None

    ended = sandbox.info
    assert (ended.state, ended.reason) == ("terminated", "user")
    assert INSTANT.fullmatch(str(ended.terminated_at))


async def test_what_is_left_out_has_the_documented_defaults(
    client: AsyncAtoll, runtime: str
) -> None:
    """Items 11 and 67."""
    async with await client.sandboxes.create("host", runtime=runtime) as sandbox:
        assert told(sandbox.resources) == Resources(cpu=2, memory_mb=4096, disk_mb=10240)
        assert sandbox.workdir == "/workspace"
        assert (sandbox.info.timeout_ms, sandbox.info.idle_timeout_ms) == (300_000, 120_000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cpu": 1},
        {"cpu": 3},
        {"cpu": 16},
        {"memory_mb": 2047},
        {"memory_mb": 16385},
        {"disk_mb": 5119},
        {"disk_mb": 51201},
        {"timeout_ms": DAY_MS + 1},
        {"timeout_ms": 0},
        {"idle_timeout_ms": -1},
        {"metadata": {str(number): "" for number in range(21)}},
        {"metadata": {"key": "v" * 257}},
        {"env": {"A": "\0"}},
        {"workdir": "here"},
        {"image": "no-such-image"},
        {"runtime": "docker"},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
async def test_a_value_out_of_range_is_refused(client: AsyncAtoll, wrong: dict[str, Any]) -> None:
    """Items 12 to 15."""
    with pytest.raises(InvalidConfig) as raised:
        await client.sandboxes.create(**{"image": "host", **wrong})

    assert raised.value.code == "INVALID_CONFIG"
    assert raised.value.retryable is False


async def test_a_missing_image_is_refused(client: AsyncAtoll) -> None:
    """Item 16."""
    with pytest.raises(InvalidConfig, match="image"):
        await client.sandboxes.create()


@pytest.mark.parametrize(
    "resources",
    [Resources(2, 2048, 5120), Resources(8, 16384, 51200)],
    ids=["smallest", "largest"],
)
async def test_values_at_the_ends_of_their_ranges_are_taken(
    client: AsyncAtoll, runtime: str, resources: Resources
) -> None:
    """Items 13 to 15."""
    metadata = {str(number): "v" * 256 for number in range(20)}

    async with await client.sandboxes.create(
        "host", resources=resources, metadata=metadata, timeout_ms=DAY_MS, runtime=runtime
    ) as sandbox:
        assert told(sandbox.resources) == resources
        assert sandbox.metadata == metadata
        assert (await sandbox.exec("echo here")).stdout == "here\n"


async def test_limits_are_what_was_asked_for(client: AsyncAtoll, runtime: str) -> None:
    async with await client.sandboxes.create(
        "host", cpu=2, memory_mb=2048, disk_mb=5120, runtime=runtime
    ) as sandbox:
        disk = await sandbox.exec(
            "df --output=size -m /workspace /usr /tmp | tail -n +2", check=True
        )

    assert [4700 < int(size) <= 5120 for size in disk.stdout.split()] == [True] * 3


async def test_auto_takes_gvisor_where_it_is_installed(client: AsyncAtoll, runtime: str) -> None:
    async with await client.sandboxes.create("host", runtime=runtime):
        async with await client.sandboxes.create("host", runtime="auto") as sandbox:
            assert sandbox.runtime in ("gvisor", runtime)


async def test_get_finds_the_same_sandbox(client: AsyncAtoll, runtime: str) -> None:
    """Item 17."""
    async with await client.sandboxes.create("host", runtime=runtime) as sandbox:
        found = await client.sandboxes.get(sandbox.id)
        assert found.info == sandbox.info
        assert (await found.exec("echo found")).stdout == "found\n"

    ended = await client.sandboxes.get(sandbox.id)
    assert (ended.state, ended.created_at) == ("terminated", sandbox.created_at)


@pytest.mark.parametrize("sandbox_id", ["sb_0000000000", "nonsense", "..", "x" * 5000])
async def test_getting_an_unknown_id_raises_not_found(client: AsyncAtoll, sandbox_id: str) -> None:
    """Items 18 and 40."""
    with pytest.raises(SandboxNotFound) as raised:
        await client.sandboxes.get(sandbox_id)

    assert isinstance(raised.value, Error)
    assert raised.value.code == "SANDBOX_NOT_FOUND"
    assert raised.value.message
    assert raised.value.retryable is False
    assert raised.value.request_id


async def test_lists_filter_and_page(client: AsyncAtoll, runtime: str) -> None:
    """Item 19."""
    label = {"test": f"lists, filters & pages = 100 % {uuid4()}"}

    async def create(number: int) -> str:
        metadata = {**label, "odd": str(number % 2)}
        return (await client.sandboxes.create("host", runtime=runtime, metadata=metadata)).id

    oldest_first = [await create(number) for number in range(5)]
    newest_first = oldest_first[::-1]

    everything = await client.sandboxes.list(metadata=label)
    page = await client.sandboxes.list(metadata=label, limit=2, offset=1)
    odd = await client.sandboxes.list(metadata={**label, "odd": "1"})
    none = await client.sandboxes.list(metadata={**label, "odd": "2"})
    await (await client.sandboxes.get(oldest_first[0])).terminate()
    running = await client.sandboxes.list(metadata=label, state="running")
    terminated = await client.sandboxes.list(metadata=label, state="terminated")

    assert [sandbox.id async for sandbox in everything] == newest_first
    assert [sandbox.id async for sandbox in page] == newest_first[1:3]
    assert (page.total, page.has_more) == (5, True)
    assert [sandbox.id async for sandbox in odd] == [newest_first[1], newest_first[3]]
    assert [sandbox.id async for sandbox in none] == []
    assert [sandbox.id async for sandbox in running] == newest_first[:-1]
    assert [sandbox.id async for sandbox in terminated] == [oldest_first[0]]
    async for sandbox in running:
        assert (await sandbox.exec("echo here")).stdout == "here\n"
        await sandbox.terminate()


async def test_terminating_is_final_and_may_be_repeated(client: AsyncAtoll, runtime: str) -> None:
    """Item 63."""
    sandbox = await client.sandboxes.create("host", runtime=runtime)

    await sandbox.terminate()
    ended = sandbox.info
    await sandbox.terminate()

    assert sandbox.info == ended
    with pytest.raises(SandboxNotFound):
        await sandbox.exec("true")
    with pytest.raises(SandboxNotFound):
        await sandbox.exec("true", on_stdout=len)
    with pytest.raises(SandboxNotFound):
        await sandbox.files.read("/etc/passwd")


async def test_terminating_many_times_at_once_ends_it_once(
    client: AsyncAtoll, runtime: str
) -> None:
    """Attack 92."""
    sandbox = await client.sandboxes.create("host", runtime=runtime)
    handles = [await client.sandboxes.get(sandbox.id) for _ in range(8)]

    await async_at_once([handle.terminate for handle in handles])

    ended = {(handle.state, handle.terminated_at, handle.reason) for handle in handles}
    assert len(ended) == 1
    assert handles[0].reason == "user"


async def test_leaving_its_block_terminates_it_also_after_an_error(
    client: AsyncAtoll, runtime: str
) -> None:
    """Item 100."""
    with pytest.raises(ZeroDivisionError):
        async with await client.sandboxes.create("host", runtime=runtime) as sandbox:
            raise ZeroDivisionError

    assert (await client.sandboxes.get(sandbox.id)).state == "terminated"


async def test_fifty_creations_ten_at_a_time_all_succeed(client: AsyncAtoll, runtime: str) -> None:
    """Item 20."""

    async def live() -> str:
        async with await client.sandboxes.create("host", runtime=runtime) as sandbox:
            assert (await sandbox.exec(["echo", sandbox.id])).stdout == f"{sandbox.id}\n"
            return sandbox.id

    ids = await async_at_once([live] * 50, at_most=10)

    assert len(set(ids)) == 50


async def test_twenty_creations_at_once_all_run_at_the_same_time(
    client: AsyncAtoll, runtime: str
) -> None:
    sandboxes = await async_at_once([lambda: client.sandboxes.create("host", runtime=runtime)] * 20)

    answers = await async_at_once([lambda s=s: s.exec(["hostname"]) for s in sandboxes])  # type: ignore[misc] # bound now
    states = [(await client.sandboxes.get(sandbox.id)).state for sandbox in sandboxes]
    await async_at_once([sandbox.terminate for sandbox in sandboxes])

    assert states == ["running"] * 20
    assert len({answer.stdout for answer in answers}) == 20
