# SPDX-License-Identifier: Apache-2.0
"""What only the asynchronous client can do: be cancelled, and wait for its callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from atoll import AsyncAtoll, AsyncSandbox, Atoll
from tests.support.scripted_server import Answer, ScriptedServer, answer_json
from tests.unit.sdk import samples


@pytest.fixture
async def sandbox(scripted: ScriptedServer) -> AsyncIterator[AsyncSandbox]:
    async with AsyncAtoll(scripted.url, "k") as client:
        scripted.script.append(answer_json(samples.sandbox()))
        yield await client.sandboxes.get("sb_0123456789")


@pytest.mark.parametrize("live", [False, True])
async def test_cancelling_a_command_closes_its_connection(
    sandbox: AsyncSandbox, scripted: ScriptedServer, live: bool
) -> None:
    begun = asyncio.Event()
    frame = samples.frame(2, b"first\n")
    scripted.script += [Answer(pieces=(frame,), hang=True)]

    task = asyncio.create_task(
        sandbox.exec("sleep 60", on_stdout=(lambda line: begun.set()) if live else None)
    )
    if live:
        await begun.wait()
    else:
        await asyncio.to_thread(scripted.wait_asked, 2)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(scripted.left.wait, 5)


async def test_a_cancelled_block_still_terminates_its_sandbox(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    inside = asyncio.Event()
    scripted.script += [answer_json(samples.sandbox(state="terminated"))]

    async def work() -> None:
        async with sandbox:
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert sandbox.state == "terminated"
    assert scripted.asked[-1].method == "DELETE"


async def test_coroutine_callbacks_are_waited_for_in_order(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    stream = samples.frame(2, b"a\nb\nc") + samples.exit_frame()
    scripted.script += [Answer(pieces=(stream,))]
    lines: list[str] = []

    async def on_line(line: str) -> None:
        await asyncio.sleep(0)
        lines.append(line)

    await sandbox.exec("work", on_stdout=on_line)

    assert lines == ["a", "b", "c"]


async def test_many_commands_run_at_once(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    scripted.script += [answer_json(samples.result(exitCode=0))] * 20

    results = await asyncio.gather(*(sandbox.exec(f"echo {n}") for n in range(20)))

    assert all(result.ok for result in results)


def test_the_synchronous_client_refuses_coroutine_callbacks(scripted: ScriptedServer) -> None:
    stream = samples.frame(2, b"a\n") + samples.exit_frame()
    scripted.script += [answer_json(samples.sandbox()), Answer(pieces=(stream,))]

    async def on_line(line: str) -> None:
        raise AssertionError("never reached")

    with Atoll(scripted.url, "k") as client:
        sandbox = client.sandboxes.get("sb_0123456789")
        with pytest.raises(TypeError, match="AsyncAtoll"):
            sandbox.exec("work", on_stdout=on_line)
