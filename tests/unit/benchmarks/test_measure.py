# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from benchmarks.__main__ import render_markdown
from benchmarks.measure import Promise, Row, Series, Verdict, interleave

AT_MOST = Promise("fast", at_most=2.0)
AT_LEAST = Promise("wide", at_least=0.5)


@pytest.mark.parametrize(
    ("promise", "value", "verdict"),
    [
        (AT_MOST, 19.9, Verdict.KEPT),
        (AT_MOST, 20.1, Verdict.BROKEN),
        (AT_LEAST, 5.0, Verdict.KEPT),
        (AT_LEAST, 4.9, Verdict.BROKEN),
        (None, 1.0, Verdict.NONE),
    ],
)
def test_row_is_judged_by_its_ratio(
    promise: Promise | None, value: float, verdict: Verdict
) -> None:
    row = Row("family", "name", "ms", value, "baseline", 10.0, promise)

    assert row.verdict is verdict


def test_row_without_a_measurement_has_no_verdict() -> None:
    assert (
        Row("family", "name", "ms", None, promise=AT_MOST, note="no daemon").verdict is Verdict.NONE
    )


def test_percentile_is_by_nearest_rank() -> None:
    series = Series([number / 1000 for number in range(1, 101)])

    assert series.median_ms == pytest.approx(51)
    assert series.p99_ms == pytest.approx(100)
    assert Series([0.007]).p99_ms == pytest.approx(7)


def test_subjects_take_turns_and_their_order_rotates() -> None:
    calls: list[str] = []
    subjects = {name: lambda name=name: calls.append(name) for name in "ab"}

    series = interleave(subjects, rounds=2, warmup=1)

    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(found.seconds) for name, found in series.items()} == {"a": 2, "b": 2}


def test_burst_calls_a_subject_several_times_in_its_turn() -> None:
    calls: list[str] = []
    subjects = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}

    series = interleave(subjects, rounds=1, warmup=0, burst=2)

    assert calls == ["a", "a", "b", "b"]
    assert len(series["a"].seconds) == 2


def test_what_runs_after_a_subject_runs_every_time() -> None:
    cleaned: list[int] = []

    interleave({"a": lambda: None}, rounds=3, warmup=2, after={"a": lambda: cleaned.append(1)})

    assert len(cleaned) == 5


def test_readme_table_tells_which_promises_were_not_kept() -> None:
    rows = [
        Row("exec", "fast enough", "ms", 1.0, "host", 1.0, AT_MOST),
        Row("exec", "too slow", "ms", 250.0, "host", 100.0, AT_MOST),
        Row("process", "answered", "", 500, "asked", 500, AT_LEAST),
        Row("exec", "not measured", "ms", None, note="no daemon"),
    ]

    lines = list(render_markdown(rows, {"processor": "2 × x", "memory": "4 GiB"}))

    assert lines[2:] == [
        "| fast enough | 1.00 ms | host | 1.00 ms | 1.00 | ≤ 2 × |",
        "| too slow | 250 ms | host | 100 ms | 2.50 | ≤ 2 × (not kept) |",
        "| answered | 500 | asked | 500 | 1.00 | ≥ 0.5 × |",
        "",
        "Measured on 2 × x, 4 GiB.",
    ]
