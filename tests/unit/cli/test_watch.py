# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from tests.support.scripted_server import Answer, ScriptedServer, answer_error, answer_json
from tests.unit.cli.conftest import Atoll
from tests.unit.sdk import samples

INFO = answer_json(samples.sandbox())
SANDBOX = "sb_0123456789"
SRC = "/workspace/src"
GONE = Answer(204)


def stream(*lines: bytes) -> Answer:
    return Answer(headers={"Content-Type": "application/x-ndjson"}, pieces=lines)


def started(path: str = SRC) -> list[Answer]:
    return [INFO, answer_json(samples.watch(path=path), 201)]


def test_every_change_is_a_line(atoll: Atoll, scripted: ScriptedServer) -> None:
    changes = stream(
        samples.change_line(number=1, path=f"{SRC}/a.py"),
        samples.change_line(number=2, kind="modified", path=f"{SRC}/a.py"),
        samples.change_line(
            number=3, kind="renamed", path=f"{SRC}/c", fromPath=f"{SRC}/b", isDirectory=True
        ),
        samples.change_line(number=4, kind="attributes", path=f"{SRC}/c/d"),
        samples.change_line(number=5, kind="overflow", path=None),
        samples.change_line(number=6, kind="removed", path=SRC, isDirectory=True),
        samples.end_line(6, "removed"),
    )
    scripted.script += [*started(), changes, GONE]

    done = atoll("watch", "-r", SANDBOX, "src")

    assert done.stdout.splitlines() == [
        "created     src/a.py",
        "modified    src/a.py",
        "renamed     src/b/ -> src/c/",
        "attributes  src/c/d",
        "overflow    changes were lost here: look at what is there now",
        "removed     src/",
    ]
    assert (done.exit_code, done.stderr) == (0, "/workspace/src is gone, and the watch with it\n")
    assert scripted.asked[1].json == {"path": "src", "recursive": True}
    assert scripted.asked[-1].method == "DELETE"


@pytest.mark.parametrize(
    ("given", "resolved", "shown"),
    [
        (".", "/workspace", "a"),
        ("./", "/workspace", "a"),
        ("/", "/", "/a"),
        ("/link", "/workspace", "/link/a"),
        ("../x/", "/x", "../x/a"),
    ],
)
def test_names_are_shown_as_the_directory_was_named(
    atoll: Atoll, scripted: ScriptedServer, given: str, resolved: str, shown: str
) -> None:
    line = samples.change_line(path=resolved.rstrip("/") + "/a")
    scripted.script += [*started(resolved), stream(line, samples.end_line(1)), GONE]

    done = atoll("watch", SANDBOX, given)

    assert done.stdout == f"created     {shown}\n"
    assert done.stderr == "the watch was stopped\n"


def test_names_cannot_steer_the_terminal(atoll: Atoll, scripted: ScriptedServer) -> None:
    name = "\x1b[2J\r\n\u202etxt"
    lines = stream(
        samples.change_line(number=1, path=f"{SRC}/{name}"),
        samples.change_line(number=2, kind="overflow", path=f"{SRC}/{name}", isDirectory=True),
        samples.end_line(2, None),
    )
    scripted.script += [*started(), lines, GONE]

    done = atoll("watch", SANDBOX, "src")

    shown = r"src/\x1b[2J\r\n\u202etxt"
    lost = "changes were lost here: look at what is there now"
    assert done.stdout.splitlines() == [f"created     {shown}", f"overflow    {shown}/: {lost}"]


def test_programs_get_an_object_a_line(atoll: Atoll, scripted: ScriptedServer) -> None:
    lines = stream(samples.change_line(path=f"{SRC}/\u2028"), samples.end_line(1))
    scripted.script += [*started(), lines, GONE]

    done = atoll("watch", "--json", SANDBOX, "src")

    assert done.stdout.isascii()
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        samples.change(path=f"{SRC}/\u2028")
    ]


def test_what_cannot_be_watched_has_its_status(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [INFO, answer_error("FILE_NOT_FOUND", 404)]

    assert atoll("watch", SANDBOX, "missing").exit_code == 66


def test_a_watch_that_is_lost_is_stopped_all_the_same(
    atoll: Atoll, scripted: ScriptedServer
) -> None:
    scripted.script += [*started(), answer_error("SANDBOX_FAILED", 409), GONE]

    assert atoll("watch", SANDBOX, "src").exit_code == 70
    assert scripted.asked[-1].method == "DELETE"
