# SPDX-License-Identifier: Apache-2.0
"""`atoll shell`, `exec` and `attach` at a real terminal, and without one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll import Atoll, Sandbox
from tests.support.server import ServerProcess
from tests.support.typist import Typist

PROGRAM = str(Path(sys.executable).with_name("atoll"))
LEAVE = b"\x10\x11"


@pytest.fixture(scope="module")
def shared(server: ServerProcess, runtime: str) -> Iterator[Sandbox]:
    with (
        Atoll(server.url, server.api_key) as client,
        client.sandboxes.create("host", runtime=runtime) as sandbox,
    ):
        yield sandbox


def at_terminal(server: ServerProcess, *arguments: str) -> Typist:
    return Typist([PROGRAM, *arguments], server.client_environment())


def run(server: ServerProcess, *arguments: str, typed: bytes = b"") -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [PROGRAM, *arguments],
        env=server.client_environment(),
        input=typed,
        capture_output=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_shell_feels_like_one(server: ServerProcess, shared: Sandbox) -> None:
    with at_terminal(server, "shell", shared.id) as typist:
        typist.wait_shown("# ")
        typist.type("stty size; echo term=$TERM\r")
        typist.wait_shown("33 99")
        typist.wait_shown("term=xterm\r\n")
        typist.wait_shown("# ")
        typist.resize_and_tell(50, 132)
        typist.type("until stty size | grep 132; do sleep 0.1; done\r")
        typist.wait_shown("50 132\r\n")
        typist.wait_shown("# ")
        # A program of its own is in the foreground by the time it says so.
        typist.type("sh -c 'echo be\"\"gins; exec sleep 100'\r")
        typist.wait_shown("begins\r\n")
        typist.type(b"\x03")
        typist.wait_shown("# ")
        # gVisor's terminals interrupt, and leave the character itself for the shell to read.
        typist.type("\recho alive-$?\r")
        typist.wait_shown("alive-130\r\n")
        typist.wait_shown("# ")
        typist.type("exit 7\r")

        assert typist.wait_ended() == 7
        assert typist.modes == typist.modes_before


def test_a_full_screen_program_can_be_used(server: ServerProcess, shared: Sandbox) -> None:
    if shutil.which("less") is None:
        pytest.skip("needs less")
    with at_terminal(server, "exec", "-it", shared.id, "less", "/etc/passwd") as typist:
        typist.wait_shown("root:")
        typist.type("q")

        assert typist.wait_ended() == 0
        assert typist.modes == typist.modes_before


def test_exec_at_a_terminal_ends_with_the_status(server: ServerProcess, shared: Sandbox) -> None:
    with at_terminal(server, "exec", "-it", shared.id, "sh", "-c", "test -t 0 && exit 9") as typist:
        assert typist.wait_ended() == 9


def test_leaving_tells_how_to_come_back(server: ServerProcess, shared: Sandbox) -> None:
    with at_terminal(server, "exec", "-it", "--tag", "left", shared.id, "cat") as typist:
        typist.type("one\r")
        typist.wait_shown("one\r\none\r\n")
        typist.type(LEAVE)
        assert typist.wait_ended() == 0
        process = shared.processes.get(tag="left")
        assert f"atoll attach {shared.id} {process.id}".encode() in typist.shown
        assert typist.modes == typist.modes_before

    with at_terminal(server, "attach", shared.id, "left") as typist:
        typist.wait_shown("one\r\none\r\n")
        typist.type("two\r")
        typist.wait_shown("two\r\ntwo\r\n")
        typist.type(b"\x04")
        assert typist.wait_ended() == 0


def test_being_told_to_end_puts_the_terminal_back(server: ServerProcess, shared: Sandbox) -> None:
    with at_terminal(server, "exec", "-it", "--tag", "told", shared.id, "cat") as typist:
        typist.type("x\r")
        typist.wait_shown("x\r\nx\r\n")
        typist.signal(signal.SIGTERM)

        assert typist.wait_ended() == 143
        assert typist.modes == typist.modes_before
    process = shared.processes.get(tag="told")
    assert process.status == "running"
    process.kill()


@pytest.mark.isolated
def test_a_server_that_is_gone_puts_the_terminal_back(
    own_server: ServerProcess, runtime: str
) -> None:
    with Atoll(own_server.url, own_server.api_key) as client:
        sandbox = client.sandboxes.create("host", runtime=runtime)
        with at_terminal(own_server, "shell", sandbox.id) as typist:
            typist.wait_shown("# ")
            own_server.kill()

            assert typist.wait_ended() == 125
            assert b"come back with: atoll attach" in typist.shown
            assert typist.modes == typist.modes_before
            process_id = typist.shown.split()[-1].decode()
        own_server.start()
        with at_terminal(own_server, "attach", sandbox.id, process_id) as typist:
            typist.type("exit 3\r")
            assert typist.wait_ended() == 3
        sandbox.terminate()


def test_a_shell_takes_commands_from_a_pipe(server: ServerProcess, shared: Sandbox) -> None:
    status, stdout, stderr = run(
        server, "shell", shared.id, typed=b"echo out\necho err >&2\ntest -t 0 || exit 4\n"
    )

    assert (status, stdout) == (4, b"out\n")
    assert b"err\n" in stderr


def test_interactive_passes_bytes_on_as_they_are(server: ServerProcess, shared: Sandbox) -> None:
    data = bytes(range(256)) * 1000

    status, stdout, stderr = run(server, "exec", "-i", shared.id, "cat", typed=data)

    assert (status, stdout, stderr) == (0, data, b"")


def test_a_process_in_the_background_is_listed_read_and_ended(
    server: ServerProcess, shared: Sandbox
) -> None:
    status, stdout, _ = run(server, "exec", "-d", "--tag", "web", shared.id, "echo up; sleep 100")
    process_id = stdout.decode().strip()
    assert status == 0
    for event in shared.processes.get(process_id).stream():
        assert event.position == 3
        break

    assert run(server, "logs", shared.id, "web")[:2] == (0, b"up\n")
    assert process_id in run(server, "ps", shared.id)[1].decode()
    listed = json.loads(run(server, "ps", "--json", "--tag", "web", shared.id)[1])
    assert [process["id"] for process in listed] == [process_id]
    assert run(server, "kill", shared.id, "web", "--signal", "TERM")[:2] == (0, stdout)
    shared.processes.get(process_id).wait(10_000)
    ended = run(server, "logs", "-f", "--since", "1", "--json", shared.id, process_id)[1]
    first, last = (json.loads(line) for line in ended.decode().splitlines())
    assert (first["data"], first["position"]) == ("p\n", 3)
    assert (last["type"], last["signal"]) == ("exit", "SIGTERM")
    assert run(server, "attach", shared.id, process_id)[0] == 143
