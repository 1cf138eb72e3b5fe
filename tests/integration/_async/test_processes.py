# SPDX-License-Identifier: Apache-2.0
"""Processes that go on by themselves, against the real server."""

from __future__ import annotations

from contextlib import aclosing

import pytest

import atoll
from atoll import AsyncAtoll, AsyncProcess, AsyncSandbox, Dropped, Exit, Stderr, Stdout
from tests.support.server import ServerProcess

COUNT = (
    "n=0; while [ $n -lt 300 ]; do echo $n; echo e$n >&2; n=$((n + 1)); sleep 0.02; done; exit 7"
)


async def read_streams(process: AsyncProcess, since: int = 0) -> tuple[bytes, bytes, Exit]:
    """Both streams to their end, which must be whole from `since` on."""
    stdout, stderr, end = b"", b"", None
    async for event in process.stream(since):
        assert not isinstance(event, Dropped)
        if isinstance(event, Stdout):
            stdout += event.data
        elif isinstance(event, Stderr):
            stderr += event.data
        else:
            end = event
    assert end is not None
    return stdout, stderr, end


async def test_a_process_is_started_followed_and_waited_for(sandbox: AsyncSandbox) -> None:
    process = await sandbox.processes.start("echo out; echo err >&2; exit 3", tag="first")

    stdout, stderr, end = await read_streams(process)
    result = await process.wait(10_000)

    assert (stdout, stderr, end.exit_code, end.position) == (b"out\n", b"err\n", 3, 8)
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    assert (result.status, result.tag, result.ok) == ("exited", "first", False)
    assert result.command == "echo out; echo err >&2; exit 3"
    assert process.exited_at is not None


async def test_output_is_there_from_any_position_as_often_as_one_likes(
    sandbox: AsyncSandbox,
) -> None:
    process = await sandbox.processes.start("printf abcdef")
    await process.wait()

    read = [(await read_streams(process, since))[0] for since in (0, 4, 0, 6)]

    assert read == [b"abcdef", b"ef", b"abcdef", b""]


async def test_leaving_a_stream_leaves_the_process(sandbox: AsyncSandbox) -> None:
    process = await sandbox.processes.start("echo one; read line; echo $line", stdin_open=True)

    async with aclosing(process.stream()) as events:
        async for event in events:
            assert event == Stdout(b"one\n", "one\n", 0, 4)
            break
    await process.write_stdin("two\n")

    assert (await read_streams(process, since=4))[0] == b"two\n"


async def test_what_there_is_now_can_be_read_without_waiting(sandbox: AsyncSandbox) -> None:
    process = await sandbox.processes.start("echo now; exec sleep 100")
    async with aclosing(process.stream()) as events:
        async for _ in events:
            break

    events_now = [event async for event in process.stream(follow=False)]

    assert events_now == [Stdout(b"now\n", "now\n", 0, 4)]
    await process.kill()


async def test_waiting_too_short_leaves_the_process(sandbox: AsyncSandbox) -> None:
    process = await sandbox.processes.start("sleep 100")

    with pytest.raises(atoll.Timeout):
        await process.wait(50)

    await process.refresh()
    assert process.status == "running"
    await process.kill()


async def test_killing_ends_all_that_it_started(sandbox: AsyncSandbox) -> None:
    process = await sandbox.processes.start("sleep 4711 & sleep 4711")

    await process.kill()
    await process.kill()
    result = await process.wait()

    assert (result.status, result.signal, result.exit_code) == ("killed", "SIGKILL", 137)
    found = await sandbox.exec("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
    assert "sleep 4711" not in found.stdout.replace("cat", "")


async def test_a_signal_reaches_it_until_it_has_ended(sandbox: AsyncSandbox) -> None:
    process = await sandbox.processes.start(
        "trap 'echo hup; exit 9' HUP; echo ready; while :; do sleep 0.01; done"
    )
    async with aclosing(process.stream()) as events:
        async for _ in events:
            break

    await process.signal("HUP", tree=False)

    result = await process.wait(10_000)
    assert (result.stdout, result.exit_code) == ("ready\nhup\n", 9)
    with pytest.raises(atoll.ProcessEnded):
        await process.signal(15)


async def test_input_is_written_piece_by_piece(sandbox: AsyncSandbox) -> None:
    process = await sandbox.processes.start(["cat"], stdin="first ", stdin_open=True)

    assert await process.write_stdin(b"\xff\x00") == 2
    await process.write_stdin(" second", eof=True)
    stdout, _, end = await read_streams(process)

    assert stdout == b"first \xff\x00 second"
    assert end.exit_code == 0
    with pytest.raises(atoll.StdinClosed):
        await process.write_stdin("late")


async def test_what_is_written_comes_after_what_was_given_at_the_start(
    sandbox: AsyncSandbox,
) -> None:
    given = "x" * 5_000_000
    process = await sandbox.processes.start(["tail", "-c", "8"], stdin=given, stdin_open=True)

    await process.write_stdin("the end", eof=True)

    assert (await process.wait(30_000)).stdout == "xthe end"


async def test_input_may_end_without_more(sandbox: AsyncSandbox) -> None:
    process = await sandbox.processes.start("wc -c", stdin_open=True)

    await process.write_stdin("x" * 100_000)
    await process.close_stdin()

    assert (await process.wait(10_000)).stdout.strip() == "100000"


async def test_processes_are_found_by_id_pid_and_tag(sandbox: AsyncSandbox) -> None:
    old = await sandbox.processes.start("sleep 100", tag="twice")
    new = await sandbox.processes.start("sleep 100", tag="twice")

    assert (await sandbox.processes.get(old.id)).pid == old.pid
    assert (await sandbox.processes.get(pid=old.pid)).id == old.id
    assert (await sandbox.processes.get(tag="twice")).id == new.id
    await new.kill()
    assert (await sandbox.processes.get(tag="twice")).id == old.id
    await old.kill()
    assert (await sandbox.processes.get(tag="twice")).id == new.id
    with pytest.raises(atoll.ProcessNotFound):
        await sandbox.processes.get("proc_999999")
    with pytest.raises(atoll.ProcessNotFound):
        await sandbox.processes.get(tag="nobody's")


async def test_processes_are_listed_newest_first_and_by_page(sandbox: AsyncSandbox) -> None:
    started = [await sandbox.processes.start("true", tag="listed") for _ in range(3)]
    for process in started:
        await process.wait()

    found = await sandbox.processes.list(tag="listed", status=["exited", "running"])
    first = await sandbox.processes.list(tag="listed", limit=2)
    rest = await sandbox.processes.list(tag="listed", limit=2, cursor=first.next_cursor)

    newest_first = [process.id for process in reversed(started)]
    assert [process.id async for process in found] == newest_first
    assert first.has_more
    assert [process.id for process in (*first.items, *rest.items)] == newest_first
    assert (await sandbox.processes.list(tag="listed", status="running")).items == []


async def test_silence_ends_a_process_that_may_not_be_silent(sandbox: AsyncSandbox) -> None:
    process = await sandbox.processes.start("echo a; sleep 100", idle_timeout_ms=200)

    result = await process.wait(20_000)

    assert (result.status, result.timed_out, result.exit_code) == ("timed_out", True, None)


async def test_a_command_that_cannot_start_is_an_error(sandbox: AsyncSandbox) -> None:
    with pytest.raises(atoll.CommandNotStarted) as caught:
        await sandbox.processes.start(["no-such-program"])

    assert caught.value.reason == "not_found"


@pytest.mark.isolated
async def test_a_stream_goes_on_over_a_killed_server(
    own_server: ServerProcess, runtime: str
) -> None:
    expected = [f"{n}\n".encode() for n in range(300)]
    async with AsyncAtoll(own_server.url, own_server.api_key) as client:
        sandbox = await client.sandboxes.create("host", runtime=runtime)
        process = await sandbox.processes.start(COUNT)
        stdout, stderr, restarts = b"", b"", 0

        async for event in process.stream():
            if isinstance(event, Stdout):
                stdout += event.data
            elif isinstance(event, Stderr):
                stderr += event.data
            if restarts < 2 and event.position > 300 * (restarts + 1):
                restarts += 1
                own_server.kill()
                own_server.start()

        result = await process.wait()
        await sandbox.terminate()
    assert restarts == 2
    assert stdout == b"".join(expected)
    assert stderr == b"".join(b"e" + line for line in expected)
    assert (result.exit_code, result.stdout) == (7, stdout.decode())
