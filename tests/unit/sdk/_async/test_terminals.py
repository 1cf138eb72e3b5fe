# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import atoll
from atoll import AsyncAtoll, AsyncSandbox
from tests.support.scripted_server import ScriptedServer, answer_error, answer_json
from tests.support.scripted_terminal import HANG, WAIT, ScriptedTerminal, scripted_terminal
from tests.unit.sdk import samples
from tests.unit.sdk._async.conftest import KEY

PTY = {"pty": {"rows": 24, "cols": 80}}
ATTACHED = {**samples.process(stdoutBytes=9, position=5, **PTY), "type": "attached", "dropped": 5}
EXIT = {"type": "exit", **samples.ended_process(exitCode=3, **PTY)}


@pytest.fixture
def terminal_server() -> Iterator[ScriptedTerminal]:
    with scripted_terminal() as server:
        yield server


@pytest.fixture
async def at_terminal(terminal_server: ScriptedTerminal) -> AsyncIterator[AsyncSandbox]:
    """A sandbox of the server that has terminals."""
    async with AsyncAtoll(terminal_server.url, KEY) as client:
        terminal_server.answers.append(answer_json(samples.sandbox()))
        sandbox = await client.sandboxes.get("sb_0123456789")
        terminal_server.asked.clear()
        yield sandbox


async def test_a_terminal_is_read_to_its_end(
    at_terminal: AsyncSandbox, terminal_server: ScriptedTerminal
) -> None:
    terminal_server.script += [ATTACHED, b"$ ", b"", b"ls\r\n", EXIT, 1000]

    async with await at_terminal.terminals.attach("proc_01", since=3) as terminal:
        begin = terminal.position
        read = [await terminal.read() for _ in range(4)]

    assert (begin, terminal.position) == (5, 11)
    assert read == [b"$ ", b"ls\r\n", b"", b""]
    assert terminal.ended
    assert (terminal.id, terminal.process.exit_code) == ("proc_01", 3)
    (asked,) = terminal_server.asked
    assert asked.path == "/v1/sandboxes/sb_0123456789/processes/proc_01/attach?since=3"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.headers["User-Agent"].startswith("atoll")


async def test_what_is_typed_and_said_has_its_form(
    at_terminal: AsyncSandbox, terminal_server: ScriptedTerminal
) -> None:
    terminal_server.script += [ATTACHED, WAIT, WAIT, WAIT, WAIT, WAIT, EXIT, 1000]

    async with await at_terminal.terminals.attach("proc_01") as terminal:
        await terminal.write(b"\xff")
        await terminal.write("é")
        await terminal.resize(50, 132)
        await terminal.signal("int")
        await terminal.end_input()
        assert await terminal.read() == b""

    *typed, resize, signal, eof = terminal_server.heard
    assert typed == [b"\xff", "é".encode()]
    assert [json.loads(said) for said in (resize, signal, eof)] == [
        {"type": "resize", "rows": 50, "cols": 132},
        {"type": "signal", "signal": "INT"},
        {"type": "eof"},
    ]


async def test_leaving_a_terminal_says_goodbye(
    at_terminal: AsyncSandbox, terminal_server: ScriptedTerminal
) -> None:
    terminal_server.script += [ATTACHED, HANG]

    terminal = await at_terminal.terminals.attach("proc_01")
    assert (terminal.position, terminal.process.position) == (5, 9)
    await terminal.aclose()
    await terminal.aclose()

    assert terminal_server.left.wait(5)


async def test_a_connection_that_breaks_is_no_end(
    at_terminal: AsyncSandbox, terminal_server: ScriptedTerminal
) -> None:
    terminal_server.script += [ATTACHED, b"a", 1001]

    async with await at_terminal.terminals.attach("proc_01") as terminal:
        assert await terminal.read() == b"a"
        with pytest.raises(atoll.ConnectionLost):
            await terminal.read()

    assert not terminal.ended


async def test_an_error_may_end_a_terminal(
    at_terminal: AsyncSandbox, terminal_server: ScriptedTerminal
) -> None:
    error = {"code": "SANDBOX_FAILED", "message": "gone", "retryable": False, "requestId": "r"}
    terminal_server.script += [ATTACHED, {"type": "error", "error": error}, 1011]

    async with await at_terminal.terminals.attach("proc_01") as terminal:
        with pytest.raises(atoll.SandboxFailed, match="gone"):
            await terminal.read()


async def test_what_was_dropped_moves_the_position(
    at_terminal: AsyncSandbox, terminal_server: ScriptedTerminal
) -> None:
    dropped = {"type": "dropped", "bytes": 90, "position": 95}
    terminal_server.script += [ATTACHED, dropped, b"abc", EXIT, 1000]

    async with await at_terminal.terminals.attach("proc_01") as terminal:
        await terminal.read()

    assert terminal.position == 98


@pytest.mark.parametrize(
    "first", [b"bytes", "nonsense", "[]", {"type": "party"}, {**ATTACHED, "pid": "5"}]
)
async def test_what_is_no_terminal_is_a_protocol_error(
    at_terminal: AsyncSandbox, terminal_server: ScriptedTerminal, first: Any
) -> None:
    terminal_server.script += [first, HANG]

    with pytest.raises(atoll.ProtocolError):
        await at_terminal.terminals.attach("proc_01")

    assert terminal_server.left.wait(5)


async def test_a_refused_handshake_says_why(
    at_terminal: AsyncSandbox, terminal_server: ScriptedTerminal
) -> None:
    terminal_server.answers += [answer_error("PROCESS_NOT_FOUND", 404)]

    with pytest.raises(atoll.ProcessNotFound, match="it is PROCESS_NOT_FOUND"):
        await at_terminal.terminals.attach("proc_none")


async def test_no_server_is_said_so(
    at_terminal: AsyncSandbox, terminal_server: ScriptedTerminal
) -> None:
    terminal_server.close()

    with pytest.raises(atoll.ConnectFailed):
        await at_terminal.terminals.attach("proc_01")


async def test_opening_starts_a_login_shell_and_takes_it_back_where_nobody_can_see_it(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    killed = answer_json(samples.ended_process(**PTY))
    scripted.script += [
        answer_json(samples.process(**PTY), 201),
        answer_error("FORBIDDEN", 403),
        killed,
    ]

    with pytest.raises(atoll.Forbidden):
        await sandbox.terminals.open(rows=50, cols=132, user="user")

    assert [asked.method for asked in scripted.asked] == ["POST", "GET", "DELETE"]
    started = scripted.asked[0].json
    assert "bash -l" in started["command"]
    assert (started["pty"], started["user"]) == ({"rows": 50, "cols": 132}, "user")
    assert scripted.asked[1].query == {"since": "0"}


async def test_waiting_ends_with_its_time(
    at_terminal: AsyncSandbox, terminal_server: ScriptedTerminal
) -> None:
    terminal_server.script += [ATTACHED, HANG]

    async with await at_terminal.terminals.attach("proc_01") as terminal:
        with pytest.raises(atoll.Timeout, match="still runs after 5 ms"):
            await terminal.wait(timeout_ms=5)


async def test_the_list_has_what_runs_at_a_terminal(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    found = samples.processes(samples.process(id="proc_1", **PTY), samples.process(id="proc_2"))
    scripted.script += [answer_json(found)]

    terminals = await sandbox.terminals.list()

    assert [process.id for process in terminals] == ["proc_1"]
    assert scripted.asked[0].query["status"] == "running"
