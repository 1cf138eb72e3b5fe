# SPDX-License-Identifier: Apache-2.0
"""`atoll watch` at a real terminal, and into a pipe."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll import Atoll, Sandbox
from tests.support.server import HOUR_MS, ServerProcess
from tests.support.typist import Typist
from tests.support.waiting import wait_until

PROGRAM = str(Path(sys.executable).with_name("atoll"))


@pytest.fixture(scope="module")
def shared(server: ServerProcess, runtime: str) -> Iterator[Sandbox]:
    with (
        Atoll(server.url, server.api_key) as client,
        client.sandboxes.create("host", runtime=runtime, timeout_ms=HOUR_MS) as sandbox,
    ):
        yield sandbox


def at_terminal(server: ServerProcess, *arguments: str) -> Typist:
    return Typist([PROGRAM, "watch", *arguments], server.client_environment())


def watched(sandbox: Sandbox) -> set[str]:
    """The directories that are being watched."""
    return {watch.path for watch in sandbox.files.watches() if watch.ended is None}


def test_each_change_is_a_line_as_it_happens(server: ServerProcess, shared: Sandbox) -> None:
    shared.exec("mkdir -p src", check=True)

    with at_terminal(server, "-r", shared.id, "src") as typist:
        typist.wait_shown("watching /workspace/src; Ctrl-C ends it\r\n")
        shared.exec("mkdir src/new && echo 1 > src/new/a && mv src/new src/old", check=True)
        typist.wait_shown("created     src/new/\r\n")
        typist.wait_shown("created     src/new/a\r\n")
        typist.wait_shown("renamed     src/new/ -> src/old/\r\n")
        shared.exec("chmod 600 src/old/a && rm -r src/old", check=True)
        typist.wait_shown("attributes  src/old/a\r\n")
        typist.wait_shown("removed     src/old/a\r\n")
        typist.wait_shown("removed     src/old/\r\n")
        typist.signal(signal.SIGINT)

        assert typist.wait_ended() == 130
        assert typist.shown == b""
    assert "/workspace/src" not in watched(shared)


def test_names_cannot_steer_the_terminal(server: ServerProcess, shared: Sandbox) -> None:
    shared.exec("mkdir -p names", check=True)

    with at_terminal(server, shared.id, "names") as typist:
        typist.wait_shown("Ctrl-C ends it\r\n")
        shared.exec("touch $'names/\\e[2J\\e]0;title\\a\\nremoved b'", check=True)

        line = typist.wait_shown(" b\r\n")
        typist.signal(signal.SIGINT)
        typist.wait_ended()

    assert line == rb"created     names/\x1b[2J\x1b]0;title\x07\nremoved b" + b"\r\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_being_told_to_end_stops_the_watch(
    server: ServerProcess, shared: Sandbox, number: int, status: int
) -> None:
    with at_terminal(server, shared.id, "/tmp") as typist:
        typist.wait_shown("Ctrl-C ends it\r\n")
        typist.signal(number)

        assert typist.wait_ended() == status
    assert "/tmp" not in watched(shared)


def test_a_directory_that_is_gone_ends_it(server: ServerProcess, shared: Sandbox) -> None:
    shared.exec("mkdir -p gone", check=True)
    command = [PROGRAM, "watch", "--json", shared.id, "gone"]

    with subprocess.Popen(
        command, env=server.client_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        wait_until(lambda: "/workspace/gone" in watched(shared))
        shared.exec("touch gone/a && rm -r gone", check=True)
        shown, said = running.communicate(timeout=30)

    changes = [json.loads(line) for line in shown.splitlines()]
    assert (changes[0]["kind"], changes[0]["path"]) == ("created", "/workspace/gone/a")
    assert (changes[-1]["kind"], changes[-1]["path"]) == ("removed", "/workspace/gone")
    assert said == b"/workspace/gone is gone, and the watch with it\n"
    assert running.returncode == 0


def test_a_reader_that_is_gone_ends_it_with_the_next_change(
    server: ServerProcess, shared: Sandbox
) -> None:
    shared.exec("mkdir -p piped", check=True)
    command = [PROGRAM, "watch", shared.id, "piped"]

    with subprocess.Popen(
        command, env=server.client_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        wait_until(lambda: "/workspace/piped" in watched(shared))
        assert running.stdout is not None
        running.stdout.close()
        shared.exec("touch piped/a", check=True)
        assert running.stderr is not None
        said = running.stderr.read()

        assert running.wait(30) == 141
    assert said == b""
    assert "/workspace/piped" not in watched(shared)


def test_what_cannot_be_watched_is_said(server: ServerProcess, shared: Sandbox) -> None:
    done = subprocess.run(
        [PROGRAM, "watch", shared.id, "/missing"],
        env=server.client_environment(),
        capture_output=True,
        timeout=50,
        check=False,
    )

    assert (done.returncode, done.stdout) == (66, b"")
    assert done.stderr.startswith(b"atoll: ")
    assert b"/missing" in done.stderr
