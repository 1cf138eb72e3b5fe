# SPDX-License-Identifier: Apache-2.0
"""Terminals: a process over a WebSocket."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.test_processes import Processes
from tests.support.api import Api
from tests.support.waiting import wait_until

SIZE = {"rows": 40, "cols": 120}


class Terminal:
    """One end of a WebSocket, and what came out of it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.output = b""
        self.said: list[dict[str, Any]] = []
        self.receive()

    def receive(self) -> None:
        message = self.connection.recv(timeout=30)
        if isinstance(message, bytes):
            self.output += message
        else:
            self.said.append(json.loads(message))

    def expect(self, text: bytes) -> bytes:
        """What came up to this text, which is taken."""
        while text not in self.output:
            self.receive()
        before, _, self.output = self.output.partition(text)
        return before

    def finish(self) -> tuple[dict[str, Any], int]:
        """The last that was said, and the code that it was closed with."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.receive()
        code = self.connection.close_code
        assert code is not None
        return self.said[-1], code

    def type(self, text: str) -> None:
        self.connection.send(text.encode())

    def say(self, **fields: object) -> None:
        self.connection.send(json.dumps(fields))


@pytest.fixture
def processes(api: Api, sandbox_id: str) -> Processes:
    return Processes(api, sandbox_id)


@contextlib.contextmanager
def attached(
    processes: Processes, process: str, query: str = "", **headers: str
) -> Iterator[Terminal]:
    server = processes.api.server
    sent = {"Authorization": f"Bearer {server.api_key}", **headers}
    url = f"ws://127.0.0.1:{server.port}{processes.root}/{process}/attach{query}"
    with connect(url, additional_headers=sent, open_timeout=30) as connection:
        yield Terminal(connection)


def start_shell(processes: Processes, **fields: object) -> str:
    command = ["/bin/sh", "-c", "PS1='$ ' exec /bin/sh -i"]
    process_id: str = processes.start(command, pty=SIZE, **fields)["id"]
    return process_id


def test_terminal_has_its_size_and_can_be_resized(processes: Processes) -> None:
    shell = start_shell(processes)
    with attached(processes, shell) as terminal:
        terminal.type("stty size; tty; echo $TERM\n")
        terminal.expect(b"40 120\r\n/dev/pts/")
        terminal.expect(b"xterm-256color\r\n")
        terminal.say(type="resize", rows=50, cols=90)
        wait_until(lambda: processes.get(shell)["pty"] == {"rows": 50, "cols": 90})
        terminal.type("stty size\n")
        terminal.expect(b"50 90\r\n")
        terminal.type("exit 3\n")
        end, code = terminal.finish()

    first = terminal.said[0]
    assert (first["type"], first["id"], first["pty"], first["dropped"]) == (
        "attached",
        shell,
        SIZE,
        0,
    )
    assert (end["type"], end["exitCode"], code) == ("exit", 3, 1000)


def test_resize_by_request(processes: Processes) -> None:
    shell = start_shell(processes)
    answer = processes.call("POST", shell, "/resize", {"rows": 10, "cols": 20})

    assert (answer.status, answer.json()["pty"]) == (200, {"rows": 10, "cols": 20})
    with attached(processes, shell) as terminal:
        terminal.type("stty size; exit\n")
        terminal.expect(b"10 20\r\n")
        terminal.finish()
    gone = processes.call("POST", shell, "/resize", {"rows": 1, "cols": 2})
    assert (gone.status, gone.error["code"]) == (409, "PROCESS_ENDED")


def test_resize_without_a_terminal_is_refused(processes: Processes) -> None:
    started = processes.start(["sleep", "30"])

    answer = processes.call("POST", started["id"], "/resize", {"rows": 1, "cols": 2})

    assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")
    processes.call("DELETE", started["id"])


def test_control_c_interrupts_what_runs_and_not_the_shell(processes: Processes) -> None:
    shell = start_shell(processes)
    with attached(processes, shell) as terminal:
        # A program of its own, so that it is in the foreground by the time it says so.
        terminal.type("sh -c 'echo be\"\"gun; exec sleep 60'\n")
        terminal.expect(b"begun\r\n")
        terminal.type("\x03")
        terminal.expect(b"$ ")
        # gVisor's terminals interrupt, and leave the character itself for the shell to read.
        terminal.type("\necho al''ive\n")
        terminal.expect(b"alive\r\n")
        terminal.type("\x04")
        end, code = terminal.finish()

    assert (end["type"], end["status"], code) == ("exit", "exited", 1000)


def test_signal_and_end_of_file_can_be_said(processes: Processes) -> None:
    shell, cat = start_shell(processes), processes.start(["cat"], stdinOpen=True)["id"]
    with attached(processes, shell) as terminal:
        terminal.say(type="signal", signal="KILL")
        killed, _ = terminal.finish()
    with attached(processes, cat) as terminal:
        terminal.type("text")
        terminal.say(type="eof")
        read, _ = terminal.finish()

    assert (killed["signal"], killed["status"]) == ("SIGKILL", "killed")
    assert (read["exitCode"], terminal.output) == (0, b"text")


def test_terminal_that_is_left_goes_on_and_replays(processes: Processes) -> None:
    shell = start_shell(processes)
    with attached(processes, shell) as terminal:
        terminal.type("x=kept; echo fi''rst\n")
        terminal.expect(b"first\r\n")

    with attached(processes, shell) as again:
        again.expect(b"first\r\n")
        again.type("echo still-$x\n")
        again.expect(b"still-kept\r\n")
        position = processes.get(shell)["position"]
    with attached(processes, shell, f"?since={position}") as later:
        later.type("exit\n")
        end, _ = later.finish()

    assert later.said[0]["position"] == position
    assert end["type"] == "exit"


def test_what_is_typed_before_hanging_up_arrives(processes: Processes) -> None:
    shell = start_shell(processes)
    with attached(processes, shell) as terminal:
        terminal.type("exit 44\n")

    assert processes.wait(shell)["exitCode"] == 44


def test_replay_is_the_last_64_kib(processes: Processes) -> None:
    started = processes.start("head -c 300000 /dev/zero | tr '\\0' x; sleep 30", pty=SIZE)
    wait_until(lambda: processes.get(started["id"])["position"] == 300_000)

    with attached(processes, started["id"]) as terminal:
        while len(terminal.output) < 64 << 10:
            terminal.receive()

    assert terminal.said[0]["position"] == 300_000 - (64 << 10)
    assert terminal.output == b"x" * (64 << 10)
    processes.call("DELETE", started["id"])


def test_two_see_the_same_terminal(processes: Processes) -> None:
    shell = start_shell(processes)
    with attached(processes, shell) as one, attached(processes, shell) as two:
        one.type("echo on''ce\n")
        one.expect(b"once\r\n")
        two.expect(b"once\r\n")
        two.type("echo tw''ice\n")
        one.expect(b"twice\r\n")
        processes.call("DELETE", shell)
        ends = [one.finish(), two.finish()]

    assert [(end["type"], code) for end, code in ends] == [("exit", 1000)] * 2


def test_ended_process_replays_and_exits(processes: Processes) -> None:
    started = processes.start("echo all", pty=SIZE)
    processes.wait(started["id"])

    with attached(processes, started["id"]) as terminal:
        end, code = terminal.finish()

    assert (terminal.output, end["exitCode"], code) == (b"all\r\n", 0, 1000)


def test_megabytes_pass_both_ways(processes: Processes) -> None:
    data = os.urandom(1 << 20) * 4
    started = processes.start(["cat"], stdinOpen=True)
    with attached(processes, started["id"]) as terminal:
        for start in range(0, len(data), 256 << 10):
            terminal.connection.send(data[start : start + (256 << 10)])
        terminal.say(type="eof")
        end, _ = terminal.finish()

    assert terminal.output == data
    assert end["stdoutBytes"] == len(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{}",
        '{"type": "nothing"}',
        '{"type": "resize", "rows": 0, "cols": 1}',
        '{"type": "signal"}',
        '{"type": "eof", "more": 1}',
        "[" * 100_000,
    ],
)
def test_nonsense_is_refused_with_a_reason(processes: Processes, text: str) -> None:
    shell = start_shell(processes)
    with attached(processes, shell) as terminal:
        terminal.connection.send(text)
        end, code = terminal.finish()

    assert (end["type"], end["error"]["code"], code) == ("error", "INVALID_REQUEST", 1011)
    assert processes.get(shell)["status"] == "running"
    processes.call("DELETE", shell)


def test_typing_where_there_is_no_input_is_refused(processes: Processes) -> None:
    started = processes.start(["sleep", "30"])
    with attached(processes, started["id"]) as terminal:
        terminal.type("x")
        end, code = terminal.finish()

    assert (end["type"], end["error"]["code"], code) == ("error", "STDIN_CLOSED", 1011)
    processes.call("DELETE", started["id"])


def test_message_over_the_limit_closes(processes: Processes) -> None:
    shell = start_shell(processes)
    with attached(processes, shell) as terminal:
        terminal.connection.send(bytes((1 << 20) + 1))
        _, code = terminal.finish()

    assert code == 1009
    processes.call("DELETE", shell)


@pytest.mark.parametrize(
    ("key", "path", "status", "code"),
    [
        ("wrong", "/attach", 401, "UNAUTHORIZED"),
        (None, "/attach", 401, "UNAUTHORIZED"),
        ("", "/nothing", 404, "NOT_FOUND"),
        ("", "/attach?x=1", 400, "INVALID_REQUEST"),
        ("", "/attach?since=99999999", 400, "INVALID_REQUEST"),
        ("", "0/attach", 404, "PROCESS_NOT_FOUND"),
    ],
)
def test_refusal_comes_before_anything_is_accepted(
    processes: Processes, key: str | None, path: str, status: int, code: str
) -> None:
    started = processes.start(["true"])
    server = processes.api.server
    headers = {} if key is None else {"Authorization": f"Bearer {key or server.api_key}"}
    url = f"ws://127.0.0.1:{server.port}{processes.root}/{started['id']}{path}"

    with pytest.raises(InvalidStatus) as raised, connect(url, additional_headers=headers):
        pass

    answer = raised.value.response
    assert answer.status_code == status
    assert json.loads(answer.body or b"")["error"]["code"] == code
    assert answer.headers["x-request-id"]


def test_plain_request_is_told_what_it_is(processes: Processes) -> None:
    started = processes.start(["true"])
    answer = processes.call("GET", started["id"], "/attach")

    assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")


@pytest.mark.slow
def test_peer_that_answers_no_ping_is_let_go(processes: Processes) -> None:
    shell = start_shell(processes)
    server = processes.api.server
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET {processes.root}/{shell}/attach HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Authorization: Bearer {server.api_key}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), 30) as silent:
        silent.sendall(request.encode())
        seen = b""
        while piece := silent.recv(65536):
            seen += piece

    assert seen.startswith(b"HTTP/1.1 101 ")
    assert b"\x89\x04" in seen  # a ping with four bytes
    assert processes.get(shell)["status"] == "running"
    processes.call("DELETE", shell)
