# SPDX-License-Identifier: Apache-2.0
"""Whether the proxy goes on, known without asking it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from atoll_server.network.proxy_process import Life


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as program:
        yield program
        program.kill()


def test_process_goes_on_until_it_has_ended(program: subprocess.Popen[bytes]) -> None:
    life = Life(os.pidfd_open(program.pid))
    assert life.goes_on()

    program.kill()
    program.wait()

    assert not life.goes_on()
    assert not life.goes_on()


def test_life_that_nobody_follows_any_more_is_over(program: subprocess.Popen[bytes]) -> None:
    descriptor = os.pidfd_open(program.pid)
    life = Life(descriptor)

    life.close()
    life.close()

    assert not life.goes_on()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
