# SPDX-License-Identifier: Apache-2.0
"""Cancelling a task of the asynchronous client: nothing hangs, nothing is left. Attack 114."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from atoll import AsyncAtoll, AsyncSandbox
from tests.support.api import Api


async def _cancel_after(seconds: float, task: asyncio.Task[object]) -> None:
    await asyncio.sleep(seconds)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("streamed", [False, True])
async def test_cancelling_a_call_kills_its_command(
    async_sandbox: AsyncSandbox, streamed: bool
) -> None:
    on_stdout = print if streamed else None
    running: asyncio.Task[object] = asyncio.ensure_future(
        async_sandbox.exec("setsid -f sleep 331.5; sleep 331.5", on_stdout=on_stdout)
    )
    wait = "until pgrep -f 'sleep 331[.]5'; do sleep 0.02; done"
    await async_sandbox.exec(wait, timeout_ms=10_000, check=True)

    await _cancel_after(0, running)

    deadline = time.monotonic() + 5
    while (await async_sandbox.exec(["pgrep", "-f", "sleep 331.5"])).stdout:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_cancelling_a_block_still_terminates_its_sandbox(
    async_client: AsyncAtoll, runtime: str
) -> None:
    known: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with await async_client.sandboxes.create("host", runtime=runtime) as sandbox:
            known.set_result(sandbox.id)
            await sandbox.exec("sleep 300")

    running: asyncio.Task[object] = asyncio.ensure_future(work())
    sandbox_id = await known

    await _cancel_after(0.1, running)

    assert (await async_client.sandboxes.get(sandbox_id)).state == "terminated"


async def test_cancelling_a_creation_at_any_moment_leaves_no_sandbox(
    async_client: AsyncAtoll, api: Api, runtime: str
) -> None:
    label = {"test": f"cancelled creation {runtime}"}

    async def create() -> None:
        await async_client.sandboxes.create("host", runtime=runtime, metadata=label)

    # All before the soonest possible answer, for a sandbox that was answered is its caller's.
    for seconds in (0, 0.001, 0.003, 0.006, 0.012):
        await _cancel_after(seconds, asyncio.ensure_future(create()))

    async def alive() -> int:
        return (await async_client.sandboxes.list(metadata=label)).total - (
            await async_client.sandboxes.list(metadata=label, state="terminated")
        ).total

    deadline = time.monotonic() + 20
    while await alive():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_cancelled_client_is_as_good_as_before(async_sandbox: AsyncSandbox) -> None:
    for seconds in (0.0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016):
        await _cancel_after(
            seconds, asyncio.ensure_future(async_sandbox.exec("echo x; sleep 0.005; echo y"))
        )
        assert (await async_sandbox.exec("echo z")).stdout == "z\n"


async def test_a_callback_may_be_a_coroutine(async_sandbox: AsyncSandbox) -> None:
    lines: list[str] = []

    async def take(line: str) -> None:
        await asyncio.sleep(0)
        lines.append(line)

    await async_sandbox.exec("echo one; echo two", on_stdout=take)

    assert lines == ["one", "two"]
