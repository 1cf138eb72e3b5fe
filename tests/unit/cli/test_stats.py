# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from atoll.cli._terminal import render_duration, render_size
from tests.support.scripted_server import ScriptedServer, answer_error, answer_json
from tests.unit.cli.conftest import Atoll
from tests.unit.sdk import samples

INFO = answer_json(samples.sandbox())
METRICS = answer_json(samples.metrics())
TABLE = """\
ID             CPU         CPU TIME  MEMORY           PROCESSES  DISK            OOM KILLS  UPTIME
sb_0123456789  12% of 0.5  1.5s      300 MiB of 4 GiB  7 of 64    4 KiB of 8 KiB  2          12.5s
"""


def test_stats_shows_what_is_used_beside_what_may_be(
    atoll: Atoll, scripted: ScriptedServer
) -> None:
    scripted.script += [INFO, METRICS, INFO, METRICS]

    shown = atoll("stats", "sb_0123456789")
    machine = atoll("stats", "--json", "sb_0123456789")

    assert shown.exit_code == 0
    assert [line.split() for line in shown.stdout.splitlines()] == [
        line.split() for line in TABLE.splitlines()
    ]
    assert json.loads(machine.stdout) == [{"id": "sb_0123456789", **samples.metrics()}]


def test_stats_without_a_name_shows_all_that_run_and_passes_over_those_that_end_meanwhile(
    atoll: Atoll, scripted: ScriptedServer
) -> None:
    both = samples.page(samples.sandbox(), samples.sandbox(id="sb_other00000"), total=2)
    gone = answer_error("SANDBOX_NOT_FOUND", 404)
    scripted.script += [answer_json(both), gone, METRICS]

    shown = atoll("stats")

    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["ID", "sb_other00000"]
    assert scripted.asked[0].query["state"] == "running"


def test_stats_of_one_that_never_was_is_an_error(atoll: Atoll, scripted: ScriptedServer) -> None:
    scripted.script += [answer_error("SANDBOX_NOT_FOUND", 404)]

    failed = atoll("stats", "sb_nobody")

    assert failed.exit_code != 0
    assert "it is SANDBOX_NOT_FOUND" in failed.stderr


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3 GiB"), (1 << 50, "1024 TiB")],
)
def test_sizes_are_shown_in_their_largest_unit(size_bytes: int, text: str) -> None:
    assert render_size(size_bytes) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0.0s"),
        (59_940, "59.9s"),
        (61_000, "1m01s"),
        (3_700_000, "1h01m"),
        (90_000_000, "1d01h"),
    ],
)
def test_lengths_of_time_are_shown_in_two_units(milliseconds: int, text: str) -> None:
    assert render_duration(milliseconds) == text
