# SPDX-License-Identifier: Apache-2.0
"""What a program at a terminal must not do to its user's terminal, and must not find open. Attacks 6 and 12."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from atoll import Sandbox
from tests.support.typist import Typist

PROGRAM = str(Path(sys.executable).with_name("atoll"))
# TIOCSTI, the same with bits that the kernel does not look at (CVE-2019-10063), and TIOCLINUX.
TYPE = """
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
TRIED = {'TIOCSTI': 0x5412, 'TIOCSTI with high bits': 0x7fffffff00005412, 'TIOCLINUX': 0x541c}
answers = {}
for name, request in TRIED.items():
    for place in ('/dev/tty', '/dev/pts/ptmx', '/dev/stdin'):
        try: terminal = os.open(place, os.O_RDWR | os.O_NOCTTY)
        except OSError as error: answers[f'{name} {place}'] = errno.errorcode[error.errno]; continue
        for letter in b'echo typed\\n':
            done = libc.syscall(16, terminal, ctypes.c_ulong(request), ctypes.byref(ctypes.c_char(letter)))
            answers[f'{name} {place}'] = 'typed' if done == 0 else errno.errorcode[ctypes.get_errno()]
print(json.dumps(answers))
"""


@pytest.mark.parametrize("user", ["root", "user"])
def test_no_program_types_for_whoever_had_it_run(sandbox: Sandbox, runtime: str, user: str) -> None:
    """Attack 12; CVE-2017-5226, CVE-2019-10063."""
    process = sandbox.processes.start(["python3", "-c", TYPE], user=user, pty=(24, 200))

    answers = json.loads(process.wait(20_000).stdout)

    assert answers.keys() >= {"TIOCSTI /dev/tty", "TIOCSTI with high bits /dev/tty"}
    assert {name for name, answer in answers.items() if answer == "typed"} == set()
    if runtime == "container":
        assert answers["TIOCSTI /dev/tty"] == answers["TIOCSTI with high bits /dev/tty"] == "EPERM"


def test_a_private_sandbox_has_no_hold_of_the_terminal_it_was_started_at(runtime: str) -> None:
    """Attack 12; CVE-2017-5226: its server was started there, and is not far from it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ATOLL_")}
    look = (
        "import os\n"
        "fields = open('/proc/1/stat').read().rpartition(')')[2].split()\n"
        "try: os.open('/dev/tty', os.O_RDWR); tty = 'open'\n"
        "except OSError: tty = 'none'\n"
        "print('terminal', fields[4], tty, 'end')\n"
    )
    command = [PROGRAM, "run", "--runtime", runtime, "--no-stdin", "--", "python3", "-c", look]

    with Typist(command, {**environment, "TERM": "xterm"}) as typist:
        shown = typist.wait_shown("end")
        status = typist.wait_ended()

    assert b"terminal 0 none end" in shown
    assert status == 0


def test_a_program_at_a_terminal_finds_nothing_else_open(sandbox: Sandbox) -> None:
    """Attack 6."""
    process = sandbox.processes.start(["ls", "/proc/self/fd"], pty=(24, 80))

    # The fourth is the directory itself.
    assert process.wait(20_000).stdout.split() == ["0", "1", "2", "3"]


def test_a_terminal_is_the_sandboxes_own(sandbox: Sandbox) -> None:
    """Attack 6: it is one of the sandbox's own file system of terminals, of which the host's are no part."""
    look = "import os, sys; print(os.ttyname(0), *sorted(os.listdir('/dev/pts')))"
    process = sandbox.processes.start(["python3", "-c", look], pty=(24, 80))

    name, *terminals = process.wait(20_000).stdout.split()

    assert name.startswith("/dev/pts/")
    assert terminals in ([name.rpartition("/")[2], "ptmx"], [name.rpartition("/")[2]])
