# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import pytest

from atoll import Timeout
from benchmarks.crowd import Crowd, answers_row, call_at_once, time_rows
from benchmarks.measure import Promise, Series, Verdict

ALL = Promise("all", at_least=1.0)


def test_calls_of_a_crowd_are_under_way_together() -> None:
    together = threading.Barrier(8)

    crowd = call_at_once([lambda: together.wait(10)] * 8)

    assert (crowd.asked, crowd.answered) == (8, 8)


def test_error_of_the_sdk_is_no_answer_and_is_told() -> None:
    def fail() -> None:
        raise Timeout("nothing came")

    crowd = call_at_once([lambda: None, fail, lambda: None])

    assert (crowd.asked, crowd.answered) == (3, 2)
    assert crowd.failures == ("Timeout: nothing came",)


def test_any_other_error_ends_the_measurement() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call_at_once([lambda: None, fail])


@pytest.mark.parametrize(
    ("failures", "verdict"), [((), Verdict.KEPT), (("Timeout: one",), Verdict.BROKEN)]
)
def test_one_call_without_an_answer_breaks_the_promise(
    failures: tuple[str, ...], verdict: Verdict
) -> None:
    row = answers_row("family", "name", Crowd(Series([0.1] * 499), failures), ALL)

    assert row.verdict is verdict
    assert row.note == "".join(failures)


def test_times_are_those_of_the_calls_that_were_answered() -> None:
    crowd = Crowd(Series([number / 1000 for number in range(1, 101)]), ("Timeout: one",))

    rows = list(time_rows("family", "name", crowd, "host", Series([0.001])))

    assert [row.name for row in rows] == ["name, p50", "name, p99"]
    assert [row.value for row in rows] == pytest.approx([51, 100])
    assert [row.ratio for row in rows] == pytest.approx([51, 100])


def test_crowd_without_any_answer_has_no_times_but_a_reason() -> None:
    rows = list(time_rows("family", "name", Crowd(Series(), ("Timeout: all",)), "host", Series()))

    assert [(row.value, row.note) for row in rows] == [(None, "Timeout: all")]
