# SPDX-License-Identifier: Apache-2.0
"""Very many commands at once: attack 42."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from atoll import AsyncAtoll, AsyncSandbox
from tests.support.concurrency import async_at_once
from tests.support.server import HOUR_MS, ServerProcess

COMMANDS = 500
EACH = 5
LONGEST_MS = 300_000
# A gVisor sandbox takes the memory and the time of ten containers.
SANDBOXES = {"container": 100, "gvisor": 10}

Record = Callable[[str, object], None]


@pytest.mark.slow
async def test_five_hundred_commands_at_once_all_answer(
    async_sandbox: AsyncSandbox, record_testsuite_property: Record
) -> None:
    """They run beside one another, and gVisor starts some thirty a second: the last wait for long."""
    times: list[float] = []

    async def run(number: int) -> str:
        begun = time.perf_counter()
        result = await async_sandbox.exec(
            ["sh", "-c", f"sleep 1; echo {number}"], timeout_ms=LONGEST_MS
        )
        times.append(time.perf_counter() - begun)
        return result.stdout

    calls = [lambda n=n: run(n) for n in range(COMMANDS)]
    results = await async_at_once(calls, at_most=COMMANDS)

    assert results == [f"{number}\n" for number in range(COMMANDS)]
    record_testsuite_property(f"p99 of {COMMANDS} in one", sorted(times)[COMMANDS * 99 // 100])


@pytest.mark.slow
async def test_commands_in_many_sandboxes_at_once_all_answer(
    async_client: AsyncAtoll, runtime: str, record_testsuite_property: Record
) -> None:
    await run_in_many(async_client, runtime, SANDBOXES[runtime], record_testsuite_property)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_commands_in_a_hundred_sandboxes_at_once_all_answer(
    server: ServerProcess, runtime: str, record_testsuite_property: Record
) -> None:
    """A small host is busy for minutes, and may be too slow even to be connected to at the first attempt."""
    async with AsyncAtoll(server.url, server.api_key, max_retries=8) as client:
        await run_in_many(client, runtime, 100, record_testsuite_property)


async def run_in_many(
    client: AsyncAtoll, runtime: str, count: int, record_testsuite_property: Record
) -> None:
    times: list[float] = []

    async def run(sandbox: AsyncSandbox, number: int) -> tuple[str, str]:
        begun = time.perf_counter()
        result = await sandbox.exec(
            ["sh", "-c", f"sleep 1; cat mine; echo {number}"], timeout_ms=LONGEST_MS
        )
        times.append(time.perf_counter() - begun)
        return sandbox.id, result.stdout

    async with AsyncExitStack() as stack:

        async def create() -> AsyncSandbox:
            made = await client.sandboxes.create("host", runtime=runtime, timeout_ms=HOUR_MS)
            sandbox = await stack.enter_async_context(made)
            await sandbox.files.write("mine", f"{sandbox.id}\n")
            return sandbox

        sandboxes = await async_at_once([create] * count, at_most=16)
        calls = [
            lambda sandbox=sandbox, n=n: run(sandbox, n)
            for sandbox in sandboxes
            for n in range(EACH)
        ]
        results = await async_at_once(calls, at_most=len(calls))

    expected = [(sandbox.id, f"{sandbox.id}\n{n}\n") for sandbox in sandboxes for n in range(EACH)]
    assert results == expected
    record_testsuite_property(
        f"p99 of {EACH} in each of {count}", sorted(times)[len(times) * 99 // 100]
    )
