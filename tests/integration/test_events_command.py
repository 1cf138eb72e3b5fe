# SPDX-License-Identifier: Apache-2.0
"""`atoll events` at a real terminal, and into a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from atoll import Atoll, Sandbox
from tests.support.server import ServerProcess
from tests.support.typist import Typist

PROGRAM = str(Path(sys.executable).with_name("atoll"))
GREEN, RED, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"


def test_events_are_followed_to_the_end_of_their_sandbox(
    server: ServerProcess, sandbox: Sandbox
) -> None:
    with Typist([PROGRAM, "events", "-f", sandbox.id], server.client_environment()) as typist:
        typist.wait_shown(f"{GREEN}sandbox.started   {PLAIN}  in ")
        sandbox.exec("exit 3")
        typist.wait_shown("  exit 3\r\n")
        typist.wait_shown(f"{RED}exec.completed    {PLAIN}  3 in ")
        sandbox.terminate()
        typist.wait_shown(f"sandbox.terminated{PLAIN}  user after ")

        assert typist.wait_ended() == 0


def test_what_happened_is_shown_to_programs(
    server: ServerProcess, client: Atoll, runtime: str
) -> None:
    with client.sandboxes.create("host", runtime=runtime) as sandbox:
        sandbox.exec(["echo", "said"])
    command = [PROGRAM, "events", "--json", "--type", "exec.completed", sandbox.id]

    done = subprocess.run(
        command, env=server.client_environment(), capture_output=True, text=True, check=True
    )

    (event,) = map(json.loads, done.stdout.splitlines())
    assert event["sandboxId"] == sandbox.id
    assert (event["data"]["command"], event["data"]["stdout"]) == (["echo", "said"], "said\n")
