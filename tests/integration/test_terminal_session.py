# SPDX-License-Identifier: Apache-2.0
"""Somebody works at `atoll shell` with the programs that people use, and sees what they would see."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from atoll import Atoll, Sandbox
from tests.integration.test_shell import at_terminal
from tests.support.screen import Screen
from tests.support.server import ServerProcess
from tests.support.typist import Typist

INTERRUPTED = 130
# Wider than a narrow screen has room for, and not than a wide one.
LONG_NAME = "0" * 90
STOPPABLE = (
    "import os, signal, time; "
    'signal.signal(signal.SIGCONT, lambda *_: os.write(1, b"goes" + b" on\\n")); '
    'os.write(1, b"be" + b"gins\\n"); time.sleep(100)'
)


@pytest.fixture(scope="module")
def shared(server: ServerProcess, runtime: str) -> Iterator[Sandbox]:
    with (
        Atoll(server.url, server.api_key) as client,
        client.sandboxes.create("host", runtime=runtime) as sandbox,
    ):
        sandbox.exec("seq -f 'line %04g' 1000 > long.txt", check=True)
        yield sandbox


@pytest.fixture
def typist(server: ServerProcess, shared: Sandbox) -> Iterator[Typist]:
    """At a shell of 33 rows and 99 columns. Whatever the test does there, the terminal is as before at the end."""
    with at_terminal(server, "shell", shared.id) as typist:
        typist.wait_seen(at_prompt)
        yield typist
        typist.wait_seen(at_prompt)
        typist.type("exit 7\r")

        assert typist.wait_ended() == 7
        assert typist.modes == typist.modes_before


def at_prompt(screen: Screen) -> bool:
    """A shell waits for a command; of one that was interrupted the line may begin with `^C`."""
    return re.fullmatch(r".*bash-[0-9.]+#", screen.cursor_line) is not None


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")


def test_less_pages_searches_and_follows_the_size(typist: Typist) -> None:
    needs("less")
    typist.type("less long.txt\r")
    typist.wait_seen(lambda screen: screen.lines[:32] == numbered(1, 32))

    typist.type(" ")
    typist.wait_seen(lambda screen: screen.lines[:32] == numbered(33, 64))
    typist.type("/0500\r")
    typist.wait_seen(lambda screen: screen.lines[:32] == numbered(500, 531))
    typist.resize_and_tell(20, 60)
    typist.wait_seen(lambda screen: screen.lines[:19] == numbered(500, 518))
    typist.resize_and_tell(45, 132)
    typist.wait_seen(lambda screen: screen.lines[:44] == numbered(500, 543))
    typist.type("G")
    typist.wait_seen(lambda screen: screen.lines[:44] == numbered(957, 1000))
    typist.type("q")
    typist.wait_seen(at_prompt)
    typist.type("stty size\r")
    typist.wait_seen(lambda screen: "45 132" in screen.lines)


def numbered(first: int, last: int) -> list[str]:
    return [f"line {number:04}" for number in range(first, last + 1)]


def test_vi_edits_and_saves_a_file(typist: Typist, shared: Sandbox) -> None:
    needs("vi")
    shared.files.write("note.txt", "first\nsecond\n")
    typist.type("vi note.txt\r")
    typist.wait_seen(lambda screen: screen.lines[:3] == ["first", "second", "~"])

    typist.type("othird\x1b")
    typist.wait_seen(lambda screen: screen.lines[:4] == ["first", "third", "second", "~"])
    typist.type("ggdd")
    typist.wait_seen(lambda screen: screen.lines[:3] == ["third", "second", "~"])
    typist.type(":wq\r")
    typist.wait_seen(at_prompt)

    assert shared.files.read_text("note.txt") == "third\nsecond\n"


def test_top_refreshes_and_follows_the_size(typist: Typist, shared: Sandbox) -> None:
    needs("top")
    named = shared.processes.start(["sleep", "600", LONG_NAME])
    typist.type("top -c -d 0.5\r")
    typist.wait_seen(lambda screen: any("sleep 600 000" in line for line in screen.lines))

    first = typist.screen.lines[0]
    assert first.startswith("top - ")
    assert not shows_whole_name(typist.screen)
    typist.wait_seen(lambda screen: screen.lines[0] not in ("", first))
    typist.resize_and_tell(20, 180)
    typist.wait_seen(shows_whole_name)
    typist.type("q")
    typist.wait_seen(at_prompt)
    typist.type("stty size\r")
    typist.wait_seen(lambda screen: "20 180" in screen.lines)
    named.kill()


def shows_whole_name(screen: Screen) -> bool:
    return any(LONG_NAME in line for line in screen.lines)


def test_control_c_ends_what_runs_in_the_foreground(typist: Typist) -> None:
    typist.type("sh -c 'echo be\"\"gins; exec sleep 100'\r")
    typist.wait_seen(lambda screen: "begins" in screen.lines)

    typist.type(b"\x03")
    typist.wait_seen(at_prompt)
    # gVisor's terminals interrupt, and leave the character itself for the shell to read.
    typist.type("\recho status-$?\r")

    typist.wait_seen(lambda screen: f"status-{INTERRUPTED}" in screen.lines)


def test_a_job_is_stopped_and_brought_back(typist: Typist) -> None:
    # Not a program that execs another: gVisor now and then loses a stop that comes in the middle of that.
    typist.type(f"python3 -c '{STOPPABLE}'\r")
    typist.wait_seen(lambda screen: "begins" in screen.lines)

    typist.type(b"\x1a")
    typist.wait_seen(lambda screen: any("Stopped" in line for line in screen.lines))
    typist.type("\rclear; jobs\r")
    typist.wait_seen(lambda screen: any(line.startswith("[1]+  Stopped") for line in screen.lines))
    typist.type("clear; fg\r")
    typist.wait_seen(lambda screen: screen.lines[0].startswith("python3 -c"))
    # The shell shows the job before it gives it the terminal, and until then Ctrl-C is the shell's.
    typist.wait_seen(lambda screen: "goes on" in screen.lines)
    typist.type(b"\x03")
    typist.wait_seen(at_prompt)
    typist.type("\recho status-$?\r")

    typist.wait_seen(lambda screen: f"status-{INTERRUPTED}" in screen.lines)
