# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
from contextlib import aclosing
from typing import Any

import pytest

import atoll
from atoll import AsyncProcess, AsyncSandbox, Dropped, Exit, ProcessEvent, Stderr, Stdout
from tests.support.scripted_server import (
    HANG_UP,
    Answer,
    ScriptedServer,
    answer_error,
    answer_json,
)
from tests.unit.sdk import samples

STDOUT, STDERR = 2, 3
BASE = "/v1/sandboxes/sb_0123456789/processes"


@pytest.fixture
async def process(sandbox: AsyncSandbox, scripted: ScriptedServer) -> AsyncProcess:
    """Its start is forgotten: the test sees only what it does itself."""
    scripted.script.append(answer_json(samples.process(stdinOpen=True), 201))
    process = await sandbox.processes.start("sleep 9", stdin_open=True)
    scripted.asked.clear()
    return process


def stream(*frames: bytes, piece: int = 1 << 16, cut: bool = False) -> Answer:
    data = b"".join(frames)
    pieces = tuple(data[at : at + piece] for at in range(0, len(data), piece))
    return Answer(headers={"Content-Type": "application/vnd.atoll.frames"}, pieces=pieces, cut=cut)


async def read_all(process: AsyncProcess, **options: Any) -> list[ProcessEvent]:
    return [event async for event in process.stream(**options)]


async def test_a_start_says_what_was_asked_and_nothing_else(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_json(samples.process(), 201)] * 2

    process = await sandbox.processes.start("sleep 9")
    await sandbox.processes.start(
        ["cat"],
        cwd="/tmp",
        env={"A": "1"},
        user="user",
        stdin=b"\xff",
        stdin_open=True,
        tag="mine",
        pty=(30, 100),
        timeout_ms=5,
        idle_timeout_ms=6,
    )

    assert [asked.path for asked in scripted.asked] == [BASE, BASE]
    assert scripted.asked[0].json == {"command": "sleep 9"}
    assert scripted.asked[1].json == {
        "command": ["cat"],
        "cwd": "/tmp",
        "env": {"A": "1"},
        "user": "user",
        "stdin": "/w==",
        "stdinEncoding": "base64",
        "stdinOpen": True,
        "tag": "mine",
        "pty": {"rows": 30, "cols": 100},
        "timeoutMs": 5,
        "idleTimeoutMs": 6,
    }
    assert (process.id, process.pid, process.status) == ("proc_01", 42, "running")
    assert repr(process).endswith("Process proc_01 running in sb_0123456789>")


async def test_a_start_whose_answer_was_lost_is_not_repeated(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [HANG_UP]

    with pytest.raises(atoll.ConnectionLost):
        await sandbox.processes.start("sleep 9")

    assert len(scripted.asked) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"command": 5},
        {"command": "true", "pty": (0, 80)},
        {"command": "true", "pty": (24, 65536)},
        {"command": "true", "pty": (24,)},
        {"command": "true", "pty": (True, 80)},
        {"command": "true", "pty": "24x80"},
        {"command": "true", "stdin": 5},
        {"command": "true", "tag": "\udcff"},
    ],
)
async def test_a_start_that_cannot_be_is_refused_before_it_is_sent(
    sandbox: AsyncSandbox, scripted: ScriptedServer, options: dict[str, Any]
) -> None:
    with pytest.raises(atoll.InvalidRequest):
        await sandbox.processes.start(**options)

    assert scripted.asked == []


async def test_a_command_comes_back_as_it_was_given(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [
        answer_json(samples.process(command=["a", "b"], pty={"rows": 1, "cols": 2}))
    ]

    process = await sandbox.processes.get("proc_01")

    assert process.command == ["a", "b"]
    assert process.pty == atoll.PtySize(1, 2)


async def test_a_tag_finds_the_newest_that_runs_else_the_newest(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [
        answer_json(samples.processes(samples.process(id="proc_running"))),
        answer_json(samples.processes()),
        answer_json(samples.processes(samples.ended_process(id="proc_ended"))),
    ]

    running = await sandbox.processes.get(tag="web")
    ended = await sandbox.processes.get(pid=42)

    assert (running.id, ended.id) == ("proc_running", "proc_ended")
    assert [asked.query for asked in scripted.asked] == [
        {"status": "running", "tag": "web", "limit": "1"},
        {"status": "running", "pid": "42", "limit": "1"},
        {"pid": "42", "limit": "1"},
    ]


async def test_a_tag_that_nobody_has_is_not_found(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_json(samples.processes())] * 2

    with pytest.raises(atoll.ProcessNotFound, match="web"):
        await sandbox.processes.get(tag="web")


@pytest.mark.parametrize("keys", [{}, {"pid": 1, "tag": "a"}])
async def test_a_process_is_got_by_one_thing(sandbox: AsyncSandbox, keys: dict[str, Any]) -> None:
    with pytest.raises(atoll.InvalidRequest):
        await sandbox.processes.get(**keys)


async def test_a_list_goes_on_over_the_pages(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [
        answer_json(samples.processes(samples.process(id="proc_2"), cursor="c/1")),
        answer_json(samples.processes(samples.process(id="proc_1"))),
    ]

    found = await sandbox.processes.list(status=["running", atoll.ProcessStatus.EXITED], tag="web")
    ids = [process.id async for process in found]

    assert ids == ["proc_2", "proc_1"]
    assert (found.has_more, found.next_cursor) == (True, "c/1")
    wanted = {"status": "running,exited", "tag": "web", "limit": "100"}
    assert [asked.query for asked in scripted.asked] == [wanted, {**wanted, "cursor": "c/1"}]


async def test_a_limited_list_is_one_page(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    scripted.script += [answer_json(samples.processes(samples.process(), cursor="c"))]

    found = await sandbox.processes.list(status="running", limit=1)

    assert [process.id for process in found.items] == [process.id async for process in found]
    assert scripted.asked[0].query == {"status": "running", "limit": "1"}


async def test_a_stream_tells_all_that_happens(
    process: AsyncProcess, scripted: ScriptedServer
) -> None:
    scripted.script += [
        stream(
            samples.attached(3, 0, 2),
            samples.frame(STDOUT, "é".encode(), 3),
            samples.frame(5, b""),
            samples.frame(STDERR, b"oops"),
            samples.process_exit(position=9, exitCode=3),
        )
    ]

    events = await read_all(process, since=1)

    assert events[:3] == [
        Dropped(2, 3),
        Stdout("é".encode(), "é", 3, 5),
        Stderr(b"oops", "oops", 0, 9),
    ]
    assert isinstance(events[3], Exit)
    assert (process.status, process.exit_code, process.position) == ("exited", 3, 9)
    assert scripted.asked[0].target == f"{BASE}/proc_01/stream?since=1"
    assert scripted.asked[0].headers["accept"] == "application/vnd.atoll.frames"


async def test_a_stream_goes_on_by_itself_where_it_broke(
    process: AsyncProcess, scripted: ScriptedServer
) -> None:
    scripted.script += [
        stream(samples.attached(), samples.frame(STDOUT, b"abcdef")[:-3], cut=True),
        HANG_UP,
        stream(samples.attached(3), samples.frame(STDOUT, b"def", 3)),
        stream(samples.attached(6), samples.process_exit(position=6)),
    ]

    events = await read_all(process)

    assert b"".join(event.data for event in events if isinstance(event, Stdout)) == b"abcdef"
    assert isinstance(events[-1], Exit)
    assert [asked.query["since"] for asked in scripted.asked] == ["0", "3", "3", "6"]


async def test_a_stream_does_not_hide_what_does_not_pass(
    process: AsyncProcess, scripted: ScriptedServer
) -> None:
    scripted.script += [
        stream(samples.attached(), cut=True),
        answer_error("PROCESS_NOT_FOUND", 404),
    ]

    with pytest.raises(atoll.ProcessNotFound):
        await read_all(process)


async def test_a_stream_that_does_not_follow_ends_with_what_there_is(
    process: AsyncProcess, scripted: ScriptedServer
) -> None:
    running = samples.control("exit", **samples.process(position=6))
    scripted.script += [stream(samples.attached(), samples.frame(STDOUT, b"so far"), running)]

    events = await read_all(process, follow=False)

    assert events == [Stdout(b"so far", "so far", 0, 6)]
    assert scripted.asked[0].query == {"since": "0", "follow": "false"}
    assert (process.status, process.position) == ("running", 6)


async def test_leaving_a_stream_closes_its_connection(
    process: AsyncProcess, scripted: ScriptedServer
) -> None:
    pieces = (samples.attached() + samples.frame(STDOUT, b"a"),)
    scripted.script += [Answer(pieces=pieces, hang=True)]

    async with aclosing(process.stream()) as events:
        async for _ in events:
            break

    assert scripted.left.wait(5)


@pytest.mark.parametrize("since", [-1, "0", None, 1.5])
async def test_a_position_is_a_number(process: AsyncProcess, since: Any) -> None:
    with pytest.raises(atoll.InvalidRequest):
        await read_all(process, since=since)


async def test_waiting_goes_on_until_it_ends(
    process: AsyncProcess, scripted: ScriptedServer
) -> None:
    scripted.script += [
        answer_error("TIMEOUT", 408),
        HANG_UP,
        answer_json(samples.process_result(stdout="done\n", exitCode=1)),
    ]

    result = await process.wait()

    assert (result.stdout, result.exit_code, result.ok) == ("done\n", 1, False)
    assert process.status == "exited"
    assert [asked.json for asked in scripted.asked] == [{"timeoutMs": 20000}] * 3


async def test_waiting_ends_with_its_time(process: AsyncProcess, scripted: ScriptedServer) -> None:
    scripted.script += [answer_error("TIMEOUT", 408)]

    with pytest.raises(atoll.Timeout, match="still runs after 0 ms"):
        await process.result(timeout_ms=0)

    assert scripted.asked[0].json == {"timeoutMs": 0}


@pytest.mark.parametrize("timeout_ms", [-1, "5", 0.5])
async def test_a_time_to_wait_is_a_number(process: AsyncProcess, timeout_ms: Any) -> None:
    with pytest.raises(atoll.InvalidRequest):
        await process.wait(timeout_ms)


@pytest.mark.parametrize(
    ("given", "sent"),
    [("TERM", "TERM"), ("sigterm", "SIGTERM"), (15, 15), ("9", 9), (signal.SIGINT, 2)],
)
async def test_a_signal_is_a_name_or_a_number(
    process: AsyncProcess, scripted: ScriptedServer, given: Any, sent: Any
) -> None:
    scripted.script += [answer_json(samples.process())]

    await process.signal(given, tree=False)

    assert scripted.asked[0].path == f"{BASE}/proc_01/signal"
    assert scripted.asked[0].json == {"signal": sent, "tree": False}


@pytest.mark.parametrize("given", ["", 0, -9, None, True, 1.5])
async def test_what_is_no_signal_is_refused_before_it_is_sent(
    process: AsyncProcess, scripted: ScriptedServer, given: Any
) -> None:
    with pytest.raises(atoll.InvalidRequest):
        await process.signal(given)

    assert scripted.asked == []


async def test_a_signal_that_is_too_late_says_so(
    process: AsyncProcess, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_error("PROCESS_ENDED", 409)]

    with pytest.raises(atoll.ProcessEnded):
        await process.signal("TERM")


async def test_killing_may_be_repeated(process: AsyncProcess, scripted: ScriptedServer) -> None:
    killed = samples.ended_process(status="killed", exitCode=137, signal="SIGKILL")
    scripted.script += [HANG_UP, answer_json(killed)]

    await process.kill()

    assert [asked.method for asked in scripted.asked] == ["DELETE", "DELETE"]
    assert (process.status, process.signal_name) == ("killed", "SIGKILL")


async def test_input_is_written_and_ended(process: AsyncProcess, scripted: ScriptedServer) -> None:
    scripted.script += [answer_json({"bytes": 2}), answer_json({"bytes": 0})]

    taken = await process.write_stdin("é")
    await process.close_stdin()

    assert taken == 2
    assert [asked.body for asked in scripted.asked] == ["é".encode(), b""]
    assert [asked.query for asked in scripted.asked] == [{}, {"eof": "true"}]
    assert scripted.asked[0].headers["content-type"] == "application/octet-stream"


async def test_input_is_never_written_twice(
    process: AsyncProcess, scripted: ScriptedServer
) -> None:
    scripted.script += [HANG_UP]

    with pytest.raises(atoll.ConnectionLost):
        await process.write_stdin(b"once")

    assert len(scripted.asked) == 1


async def test_input_that_is_closed_says_so(
    process: AsyncProcess, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_error("STDIN_CLOSED", 409)]

    with pytest.raises(atoll.StdinClosed):
        await process.write_stdin(b"late")


async def test_a_terminal_is_resized(process: AsyncProcess, scripted: ScriptedServer) -> None:
    scripted.script += [answer_json(samples.process(pty={"rows": 50, "cols": 132}))]

    await process.resize(50, 132)

    assert scripted.asked[0].json == {"rows": 50, "cols": 132}
    assert process.pty == atoll.PtySize(50, 132)
