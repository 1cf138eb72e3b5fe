# SPDX-License-Identifier: Apache-2.0
"""What a newcomer runs first works, with a private server of its own, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support.inventory import find_leftovers
from tests.support.server import neutral_environment

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = [sys.executable, str(ROOT / "examples" / "demo.py")]


def environment() -> dict[str, str]:
    return {**neutral_environment(), "COLUMNS": "120", "PYTHONUNBUFFERED": "1"}


def test_demo_runs_in_every_runtime(runtime: str) -> None:
    result = subprocess.run(
        [*DEMO, runtime], env=environment(), capture_output=True, text=True, timeout=50, check=False
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "148,933 primes below two million" in result.stdout
    assert "lift-off" in result.stdout
    assert find_leftovers(ids_in(result.stdout)) == frozenset()


def test_demo_that_is_interrupted_leaves_nothing(runtime: str) -> None:
    with subprocess.Popen(
        [*DEMO, runtime],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        seen = list(takewhile_including("streamed output", demo.stdout))
        demo.send_signal(signal.SIGINT)
        seen += demo.stdout
        status = demo.wait(timeout=150)

    output = "".join(seen)
    assert status == 130, output
    assert find_leftovers(ids_in(output)) == frozenset()


def takewhile_including(mark: str, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if mark in line:
            return


def ids_in(text: str) -> list[str]:
    ids = [word.strip(",") for word in text.split() if word.startswith("sb_")]
    assert ids, text
    return ids
