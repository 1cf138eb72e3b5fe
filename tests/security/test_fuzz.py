# SPDX-License-Identifier: Apache-2.0
"""System calls by chance hurt nobody but the sandbox that makes them. Attack 17."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import re
from collections.abc import Iterator

import pytest

from atoll import Atoll, Error
from tests.security.conftest import Probe
from tests.support.server import HOUR_MS

# What a kernel says of itself when something in it went wrong; of a program's it says "general protection fault ip:".
TROUBLE = re.compile(
    r"BUG|Oops|WARNING: |general protection fault[,:]|KASAN|UBSAN|unable to handle|hung task|soft lockup"
    r"|rcu.*stall|list_\w+ corruption"
)
ROUNDS = [
    pytest.param(1, 4, id="short"),
    pytest.param(5, 120, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
]


@pytest.fixture
def kernel_log() -> Iterator[int]:
    """The kernel's log from here on."""
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        pytest.skip("host lacks a kernel log that can be read")
    os.lseek(log, 0, os.SEEK_END)
    yield log
    os.close(log)


@pytest.mark.slow
@pytest.mark.parametrize("user", ["root", "user"])
@pytest.mark.parametrize(("rounds", "seconds"), ROUNDS)
def test_system_calls_by_chance_hurt_nobody_else(
    client: Atoll, runtime: str, kernel_log: int, user: str, rounds: int, seconds: int
) -> None:
    """Attack 17: a kernel that is the sandbox's own may die of them; the host's does not even complain."""
    if platform.machine() != "x86_64":
        pytest.skip("host lacks the numbers of x86-64's system calls")
    seed = random.SystemRandom().getrandbits(32)
    with (
        client.sandboxes.create("host", runtime=runtime, timeout_ms=HOUR_MS) as fuzzed,
        client.sandboxes.create("host", runtime=runtime, timeout_ms=HOUR_MS) as other,
    ):
        probe = Probe(fuzzed, timeout_ms=(seconds + 60) * 1000)
        calls = 0
        with contextlib.suppress(Error):
            for number in range(rounds):
                calls += probe("fuzz", str(seconds), str(seed + number), user=user)["calls"]
        state = client.sandboxes.get(fuzzed.id).state
        if state == "running":
            assert fuzzed.exec("echo here").stdout == "here\n"
        assert other.exec("echo here").stdout == "here\n"

    assert state in ("running", "failed"), f"seed {seed}"
    assert state == "failed" or calls > 100, f"seed {seed}"
    assert [line for line in _read(kernel_log) if TROUBLE.search(line)] == [], f"seed {seed}"


def _read(log: int) -> list[str]:
    """What came since, a record a line."""
    records = []
    with contextlib.suppress(BlockingIOError):
        while True:
            with contextlib.suppress(BrokenPipeError):  # some were lost
                records.append(os.read(log, 8192).decode(errors="replace"))
    return records
