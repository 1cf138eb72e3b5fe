# SPDX-License-Identifier: Apache-2.0
"""What the server weighs beside sandboxes, and what sandboxes weigh beside the rest of the host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from atoll_server.precedence import NICE, parse_nice
from atoll_server.runtimes.cgroups import MOUNT, render_parent_weight
from tests.support.server import ServerProcess

_AUTOGROUP = Path("/proc/self/autogroup")
_TAKE = "from atoll_server import precedence; precedence.take()"
_TELL = "print(open('/proc/self/autogroup').read())"
_CHOOSE = "open('/proc/self/autogroup', 'w').write('5')"


@pytest.fixture(autouse=True)
def _sessions_weigh(request: pytest.FixtureRequest) -> None:
    if "autogroup" in request.node.name and not _AUTOGROUP.exists():
        pytest.skip("host lacks sessions with a weight of their own (CONFIG_SCHED_AUTOGROUP)")


def test_the_autogroup_of_a_server_that_leads_its_session_is_raised(server: ServerProcess) -> None:
    assert parse_nice(Path(f"/proc/{server.pid}/autogroup").read_text()) == NICE


def test_the_autogroup_of_a_session_that_another_leads_is_left_alone() -> None:
    before = _AUTOGROUP.read_text()

    assert _run(_TAKE, _TELL, leads_session=False) == before.strip()
    assert _AUTOGROUP.read_text() == before


def test_the_autogroup_that_somebody_has_chosen_a_weight_for_keeps_it() -> None:
    assert parse_nice(_run(_CHOOSE, _TAKE, _TELL, leads_session=True)) == 5


def test_all_sandboxes_together_weigh_less_than_what_else_is_on_the_host(
    server: ServerProcess,
) -> None:
    version = 2 if (MOUNT / "cgroup.controllers").exists() else 1
    ((name, weight),) = render_parent_weight(version=version).items()
    hierarchy = MOUNT if version == 2 else MOUNT / "cpu"

    assert server.pid
    assert (hierarchy / "atoll" / name).read_text().strip() == weight


def _run(*lines: str, leads_session: bool) -> str:
    """What a program of these lines prints."""
    program = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(
        program, start_new_session=leads_session, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
