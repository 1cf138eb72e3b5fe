# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cli._processes import exit_status_of_process, render_command
from atoll.cli._tty import LEAVE, LeaveKeys
from atoll.models import ProcessInfo, ProcessStatus
from tests.support.scripted_server import Answer, ScriptedServer, answer_error, answer_json
from tests.unit.cli.conftest import Atoll
from tests.unit.sdk import samples

INFO = answer_json(samples.sandbox())
SANDBOX = "sb_0123456789"
KEYS = st.lists(st.sampled_from([b"\x10", b"\x11", b"a", b"\x10\x11", b"bc"]), max_size=8)


def frames(*parts: bytes) -> Answer:
    return Answer(headers={"Content-Type": "application/vnd.atoll.frames"}, pieces=parts)


def test_ps_shows_what_runs(atoll: Atoll, scripted: ScriptedServer) -> None:
    found = samples.processes(
        samples.process(tag="\x1b[2J", command=["echo", "a b"]),
        samples.ended_process(id="proc_00", exitCode=3),
    )
    scripted.script += [INFO, answer_json(found)]

    lines = atoll("ps", SANDBOX).stdout.splitlines()

    assert lines[0].split() == ["ID", "PID", "STATUS", "USER", "AGE", "TAG", "COMMAND"]
    assert lines[1].split()[:4] == ["proc_01", "42", "running", "root"]
    assert lines[1].endswith("echo 'a b'")
    assert "\x1b" not in lines[1]
    assert lines[2].split()[2:4] == ["exited", "(3)"]
    assert scripted.asked[1].query["status"] == "running"


def test_ps_filters(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [INFO, answer_json(samples.processes(samples.process()))] * 2

    ids = atoll("ps", "-q", "--status", "exited", "-s", "killed", "--tag", "web", SANDBOX)
    everything = atoll("ps", "--all", "--json", "--limit", "5", SANDBOX)

    assert ids.stdout == "proc_01\n"
    assert scripted.asked[1].query == {"status": "exited,killed", "tag": "web", "limit": "100"}
    assert json.loads(everything.stdout) == [samples.process()]
    assert scripted.asked[3].query == {"limit": "5"}


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("proc_01", "/v1/sandboxes/sb_0123456789/processes/proc_01"),
        ("42", "/v1/sandboxes/sb_0123456789/processes?status=running&pid=42&limit=1"),
        ("web", "/v1/sandboxes/sb_0123456789/processes?status=running&tag=web&limit=1"),
    ],
)
def test_a_process_is_named_by_id_pid_or_tag(
    atoll: Atoll, scripted: ScriptedServer, name: str, asked: str
) -> None:
    one = samples.process()
    found = one if name.startswith("proc_") else samples.processes(one)
    scripted.script += [INFO, answer_json(found), answer_json(samples.ended_process())]

    done = atoll("kill", SANDBOX, name)

    assert (done.exit_code, done.stdout) == (0, "proc_01\n")
    assert scripted.asked[1].target == asked
    assert scripted.asked[2].method == "DELETE"


def test_kill_sends_a_signal_and_goes_on_after_one_that_is_unknown(
    atoll: Atoll, scripted: ScriptedServer
) -> None:
    running = answer_json(samples.process())
    scripted.script += [INFO, answer_error("PROCESS_NOT_FOUND", 404), running, running]

    done = atoll("kill", "--signal", "term", "--alone", "--json", SANDBOX, "proc_00", "proc_01")

    assert done.exit_code == 66
    assert "proc_00" in done.stderr
    assert json.loads(done.stdout) == [samples.process()]
    assert scripted.asked[3].json == {"signal": "TERM", "tree": False}


def test_kill_alone_needs_a_signal(atoll: Atoll) -> None:
    assert atoll("kill", "--alone", SANDBOX, "proc_01").exit_code == 2


def test_logs_go_to_the_streams_that_they_came_from(atoll: Atoll, scripted: ScriptedServer) -> None:
    begin = samples.attached(3, 0, 2)
    written = samples.frame(2, b"out\n", 3) + samples.frame(3, b"err\n")
    running = samples.control("exit", **samples.process(position=11))
    scripted.script += [INFO, answer_json(samples.process()), frames(begin, written, running)]

    done = atoll("logs", "--since", "1", SANDBOX, "proc_01")

    assert (done.exit_code, done.stdout) == (0, "out\n")
    assert "2 bytes of its output are not kept" in done.stderr
    assert done.stderr.endswith("err\n")
    assert scripted.asked[2].query == {"since": "1", "follow": "false"}


def test_logs_for_programs_are_objects(atoll: Atoll, scripted: ScriptedServer) -> None:
    written = samples.frame(2, "é".encode()) + samples.frame(3, b"\xff")
    scripted.script += [
        INFO,
        answer_json(samples.process()),
        frames(samples.attached(), written, samples.process_exit(position=3)),
    ]

    done = atoll("logs", "-f", "--json", SANDBOX, "proc_01")

    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"type": "stdout", "data": "é", "offset": 0, "position": 2},
        {"type": "stderr", "data": "/w==", "encoding": "base64", "offset": 0, "position": 3},
        {"type": "exit", **samples.ended_process(position=3)},
    ]


def test_a_detached_exec_prints_the_id(atoll: Atoll, scripted: ScriptedServer) -> None:
    started = answer_json(samples.process(), 201)
    scripted.script += [INFO, started] * 2

    done = atoll(
        "exec", "-d", "--tag", "web", "-e", "A=1", "--timeout", "2h", SANDBOX, "sleep", "9"
    )
    machine = atoll("exec", "-d", "-t", "--json", SANDBOX, "top")

    assert (done.exit_code, done.stdout) == (0, "proc_01\n")
    assert scripted.asked[1].json == {
        "command": ["sleep", "9"],
        "env": {"A": "1"},
        "tag": "web",
        "timeoutMs": 7_200_000,
    }
    assert json.loads(machine.stdout) == samples.process()
    assert scripted.asked[3].json["pty"] == {"rows": 24, "cols": 80}


@pytest.mark.parametrize(
    "options", [("-it", "--json"), ("-i", "--json"), ("--tag", "web")], ids=" ".join
)
def test_exec_refuses_what_does_not_go_together(atoll: Atoll, options: tuple[str, ...]) -> None:
    assert atoll("exec", *options, SANDBOX, "true").exit_code == 2


def test_a_process_that_is_not_found_has_its_status(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [INFO, answer_error("PROCESS_NOT_FOUND", 404)] * 2

    assert atoll("logs", SANDBOX, "proc_01").exit_code == 66
    assert atoll("attach", SANDBOX, "proc_01").exit_code == 125


@given(KEYS)
def test_the_keys_that_leave_are_found_however_they_come(pieces: list[bytes]) -> None:
    keys = LeaveKeys()
    typed = b"".join(pieces)

    passed = b"".join(keys.feed(piece) for piece in pieces)

    before, found, _ = typed.partition(LEAVE)
    assert keys.found == bool(found)
    assert passed == (before if found else typed.removesuffix(LEAVE[:1]))


@pytest.mark.parametrize(
    ("status", "code", "signal", "expected"),
    [
        ("exited", 3, None, 3),
        ("killed", 143, "SIGTERM", 143),
        ("killed", None, "SIGTERM", 143),
        ("timed_out", None, "SIGTERM", 124),
    ],
)
def test_a_process_gives_the_status_that_shells_give(
    status: str, code: int | None, signal: str | None, expected: int
) -> None:
    info = ProcessInfo(
        id="proc_01",
        pid=1,
        command="x",
        cwd="/",
        user="root",
        status=ProcessStatus(status),
        started_at="",
        exit_code=code,
        signal=signal,
    )

    assert exit_status_of_process(info) == expected


def test_commands_are_shown_as_they_are_typed() -> None:
    assert render_command("echo a | cat") == "echo a | cat"
    assert render_command(["echo", "a b"]) == "echo 'a b'"
