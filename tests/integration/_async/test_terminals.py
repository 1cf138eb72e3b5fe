# SPDX-License-Identifier: Apache-2.0
"""Terminals over WebSockets, against the real server."""

from __future__ import annotations

import pytest

import atoll
from atoll import AsyncAtoll, AsyncSandbox, AsyncTerminal
from tests.support.server import ServerProcess


async def read_until(terminal: AsyncTerminal, *wanted: bytes) -> bytes:
    """What the terminal shows, up to what is wanted, one after the other."""
    shown, at = b"", 0
    for each in wanted:
        while (found := shown.find(each, at)) < 0:
            piece = await terminal.read()
            assert piece, f"{each!r} did not come: {shown!r}"
            shown += piece
        at = found + len(each)
    return shown


async def test_a_login_shell_has_a_terminal_of_that_size(sandbox: AsyncSandbox) -> None:
    async with await sandbox.terminals.open(rows=33, cols=99) as terminal:
        await terminal.write("stty size; shopt login_shell; test -t 0 && echo at a $TERM\r")
        shown = await read_until(terminal, b"at a xterm")
        await terminal.write("exit 5\r")
        result = await terminal.wait(20_000)

    assert b"33 99" in shown
    assert b"on" in shown
    assert (result.exit_code, terminal.ended) == (5, True)


async def test_a_terminal_is_resized_while_programs_run(sandbox: AsyncSandbox) -> None:
    command = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    async with await sandbox.terminals.open(["bash", "-c", command]) as terminal:
        await read_until(terminal, b"ready")
        await terminal.resize(50, 132)
        shown = await read_until(terminal, b"132")
        await terminal.wait(20_000)

    assert b"50 132" in shown


async def test_ctrl_c_ends_what_runs_and_not_the_shell(sandbox: AsyncSandbox) -> None:
    async with await sandbox.terminals.open() as terminal:
        await read_until(terminal, b"# ")
        # A program of its own is in the foreground by the time it says so.
        await terminal.write("sh -c 'echo be\"\"gins; exec sleep 100'\r")
        await read_until(terminal, b"begins\r\n")
        await terminal.write(b"\x03")
        await read_until(terminal, b"# ")
        # gVisor's terminals interrupt, and leave the character itself for the shell to read.
        await terminal.write("\recho alive-$?\r")
        await read_until(terminal, b"alive-130\r\n", b"# ")
        await terminal.write(b"\x04")
        assert (await terminal.wait(20_000)).status == "exited"


async def test_a_terminal_is_left_and_come_back_to(sandbox: AsyncSandbox) -> None:
    terminal = await sandbox.terminals.open(["cat"], tag="kept")
    await terminal.write("one\r")
    await read_until(terminal, b"one\r\none\r\n")
    await terminal.aclose()

    assert [process.tag for process in await sandbox.terminals.list()] == ["kept"]
    async with await sandbox.terminals.attach(terminal.id) as again:
        assert await read_until(again, b"one\r\none\r\n")
    async with await sandbox.terminals.attach(terminal.id, since=terminal.position) as third:
        await third.write("two\r")
        assert await read_until(third, b"two\r\ntwo\r\n") == b"two\r\ntwo\r\n"
        await third.end_input()
        assert await third.read() == b""
        assert third.process.exit_code == 0


async def test_a_signal_goes_through_a_terminal(sandbox: AsyncSandbox) -> None:
    async with await sandbox.terminals.open(["sleep", "100"]) as terminal:
        await terminal.signal("TERM")
        result = await terminal.wait(20_000)

    assert (result.signal, result.exit_code) == ("SIGTERM", 143)


async def test_a_process_without_a_terminal_can_be_typed_to(sandbox: AsyncSandbox) -> None:
    process = await sandbox.processes.start(["cat"], stdin_open=True)

    async with await sandbox.terminals.attach(process.id) as terminal:
        await terminal.write("as it is\n")
        await terminal.end_input()
        shown = await read_until(terminal, b"\n")
        assert await terminal.read() == b""

    assert shown == b"as it is\n"


async def test_nobody_is_at_a_terminal_that_is_not_there(sandbox: AsyncSandbox) -> None:
    with pytest.raises(atoll.ProcessNotFound):
        await sandbox.terminals.attach("proc_999999")


async def test_a_key_is_needed(sandbox: AsyncSandbox, server: ServerProcess) -> None:
    process = await sandbox.processes.start(["cat"], pty=(24, 80))
    async with AsyncAtoll(server.url, "another-key-0123456789") as stranger:
        terminals = type(sandbox.terminals)(stranger._transport, sandbox.id, sandbox.processes)

        with pytest.raises(atoll.Unauthorized):
            await terminals.attach(process.id)

    await process.kill()


async def test_a_unix_socket_carries_terminals_too(
    sandbox: AsyncSandbox, server: ServerProcess
) -> None:
    async with AsyncAtoll(f"unix://{server.socket}", server.api_key) as client:
        same = await client.sandboxes.get(sandbox.id)
        async with await same.terminals.open(["echo", "here"]) as terminal:
            assert await terminal.read() == b"here\r\n"


async def test_much_output_comes_whole(sandbox: AsyncSandbox) -> None:
    size = 0
    async with await sandbox.terminals.open("stty raw; head -c 8000000 /dev/zero") as terminal:
        while piece := await terminal.read():
            size += len(piece)

    assert size == 8_000_000
