# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from tests.support.scripted_server import Answer, ScriptedServer, answer_error, answer_json
from tests.unit.cli.conftest import Atoll
from tests.unit.sdk import samples

CREATED = answer_json(samples.sandbox(), 201)
ENDED = answer_json(samples.sandbox(state="terminated"))


def _stream(*frames: bytes) -> Answer:
    return Answer(pieces=frames)


def test_run_creates_runs_and_terminates(atoll: Atoll, scripted: ScriptedServer) -> None:
    stream = _stream(
        samples.frame(2, b"out\xff\n"), samples.frame(3, b"err\n"), samples.exit_frame(exitCode=7)
    )
    scripted.script += [CREATED, stream, ENDED]

    done = atoll("run", "-n", "-e", "A=1=2", "-w", "/tmp", "-u", "user", "--", "ls", "-la", "a b")

    assert done.exit_code == 7
    assert done.stdout_bytes == b"out\xff\n"
    assert done.stderr == "err\n"
    assert [asked.method for asked in scripted.asked] == ["POST", "POST", "DELETE"]
    assert scripted.asked[0].json == {"image": "host", "timeoutMs": 420_000}
    assert scripted.asked[1].json == {
        "command": ["ls", "-la", "a b"],
        "cwd": "/tmp",
        "env": {"A": "1=2"},
        "user": "user",
        "timeoutMs": 300_000,
    }


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("-c", "echo a | wc"), "echo a | wc"),
        (("echo a | wc",), "echo a | wc"),
        (("true",), ["true"]),
        (("--", "true", "--json", "-n"), ["true", "--json", "-n"]),
        (("sh", "-c", "echo a"), ["sh", "-c", "echo a"]),
    ],
)
def test_one_word_with_a_space_is_shell_text(
    atoll: Atoll, scripted: ScriptedServer, arguments: tuple[str, ...], command: object
) -> None:
    scripted.script += [CREATED, _stream(samples.exit_frame()), ENDED]

    done = atoll("run", *arguments)

    assert done.exit_code == 0
    assert scripted.asked[1].json["command"] == command


def test_run_describes_the_sandbox(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [CREATED, _stream(samples.exit_frame()), ENDED]

    atoll(
        *("run", "--image", "node:22", "--runtime", "gvisor", "--cpu", "4", "--memory", "4g"),
        *("--disk", "10240m", "--timeout", "1.5s", "true"),
    )

    assert scripted.asked[0].json == {
        "image": "node:22",
        "runtime": "gvisor",
        "resources": {"cpu": 4, "memoryMb": 4096, "diskMb": 10240},
        "timeoutMs": 121_500,
    }
    assert scripted.asked[1].json["timeoutMs"] == 1500


def test_a_configured_image_wins_over_host(
    atoll: Atoll, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATOLL_DEFAULT_IMAGE", "python:3.12")
    scripted.script += [CREATED, _stream(samples.exit_frame()), ENDED]

    atoll("run", "true")

    assert scripted.asked[0].json["image"] == "python:3.12"


@pytest.mark.parametrize(
    ("result", "status", "said"),
    [
        ({"exitCode": None, "timedOut": True, "signal": "SIGTERM"}, 124, "time limit of 300 s"),
        ({"exitCode": 137, "signal": "SIGKILL"}, 137, ""),
        ({"exitCode": 137, "signal": "SIGKILL", "oomKilled": True}, 137, "out of memory"),
        ({"exitCode": 127}, 127, ""),
    ],
)
def test_the_status_says_how_it_ended(
    atoll: Atoll, scripted: ScriptedServer, result: dict[str, object], status: int, said: str
) -> None:
    scripted.script += [CREATED, _stream(samples.exit_frame(**result)), ENDED]

    done = atoll("run", "true")

    assert done.exit_code == status
    assert said in done.stderr


@pytest.mark.parametrize(
    ("reason", "status"), [("not_found", 127), ("not_executable", 126), ("bad_directory", 125)]
)
def test_a_command_that_cannot_start_has_the_status_of_shells(
    atoll: Atoll, scripted: ScriptedServer, reason: str, status: int
) -> None:
    scripted.script += [CREATED, answer_error("COMMAND_NOT_STARTED", 422, reason=reason), ENDED]

    done = atoll("run", "nosuch")

    assert done.exit_code == status
    assert done.stderr == "atoll: it is COMMAND_NOT_STARTED\n"
    assert scripted.asked[-1].method == "DELETE"


def test_errors_of_our_own_are_125(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [answer_error("INVALID_CONFIG", 400)]

    done = atoll("run", "--cpu", "3", "true")

    assert done.exit_code == 125
    assert done.stdout == ""


def test_json_gives_the_result_in_one_object(atoll: Atoll, scripted: ScriptedServer) -> None:
    result = samples.result(stdout="a\x1b[31m", exitCode=3)
    scripted.script += [CREATED, answer_json(result), ENDED]

    done = atoll("run", "--json", "true")

    assert done.exit_code == 3
    assert json.loads(done.stdout) == {"sandboxId": "sb_0123456789", **result}
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-c", "a", "b"),
        ("--timeout", "soon", "true"),
        ("--memory", "lots", "true"),
        ("--env", "A", "true"),
        ("--nosuch", "true"),
    ],
)
def test_what_makes_no_sense_is_status_2_and_asks_nobody(
    atoll: Atoll, scripted: ScriptedServer, arguments: tuple[str, ...]
) -> None:
    done = atoll("run", *arguments)

    assert done.exit_code == 2
    assert scripted.asked == []


def test_exec_leaves_the_sandbox(atoll: Atoll, scripted: ScriptedServer) -> None:
    stream = _stream(samples.frame(2, b"hi\n"), samples.exit_frame(exitCode=1))
    scripted.script += [answer_json(samples.sandbox()), stream]

    done = atoll("exec", "sb_0123456789", "--", "echo", "hi")

    assert (done.exit_code, done.stdout) == (1, "hi\n")
    assert [asked.method for asked in scripted.asked] == ["GET", "POST"]


@pytest.mark.parametrize(
    ("options", "egress"),
    [
        (("--network", "allow"), {"default": "allow", "allow": []}),
        (("--allow", "a.test"), {"default": "deny", "allow": ["a.test"]}),
        (
            ("--allow", "a.test", "--allow", "*.b.test:22"),
            {"default": "deny", "allow": ["a.test", "*.b.test:22"]},
        ),
    ],
)
def test_network_is_what_the_options_allow(
    atoll: Atoll, scripted: ScriptedServer, options: tuple[str, ...], egress: object
) -> None:
    scripted.script += [CREATED, _stream(samples.exit_frame()), ENDED]

    atoll("run", *options, "true")

    assert scripted.asked[0].json["network"] == {"egress": egress}


@pytest.mark.parametrize("command", ["run", "create"])
def test_secret_comes_from_the_environment(
    atoll: Atoll, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("KEY", "sk-1")
    scripted.script += [CREATED, _stream(samples.exit_frame()), ENDED]

    atoll(command, "--allow", "a.test", "--secret", "KEY=a.test, *.b.test", *_command(command))

    sent = {"value": "sk-1", "hosts": ["a.test", "*.b.test"], "header": None}
    assert scripted.asked[0].json["secrets"] == {"KEY": sent}


def test_secret_that_the_environment_lacks_is_named(atoll: Atoll, scripted: ScriptedServer) -> None:
    done = atoll("run", "--secret", "NO_SUCH_KEY=a.test", "true")

    assert done.exit_code != 0
    assert "no environment variable NO_SUCH_KEY" in done.stderr.replace("\n", " ")
    assert scripted.asked == []


def _command(command: str) -> tuple[str, ...]:
    return ("true",) if command == "run" else ()
