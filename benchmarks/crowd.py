# SPDX-License-Identifier: Apache-2.0
"""Many calls made at the same moment: how many were answered, and how long each took."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from atoll import Error
from benchmarks.measure import Call, Promise, Row, Series


@dataclass(frozen=True)
class Crowd:
    """What became of the calls. `series` holds those that were answered; `failures` say what became of the others."""

    series: Series
    failures: tuple[str, ...] = ()

    @property
    def asked(self) -> int:
        """How many calls were made."""
        return len(self.series.seconds) + len(self.failures)

    @property
    def answered(self) -> int:
        """How many of them were answered."""
        return len(self.series.seconds)


def call_at_once(calls: Sequence[Call]) -> Crowd:
    """Make every call in a thread of its own, once all threads are there. An error of the SDK is no answer."""
    gate = threading.Barrier(len(calls))

    def make(call: Call) -> float | str:
        gate.wait()
        started = time.perf_counter()
        try:
            call()
        except Error as error:
            return f"{type(error).__name__}: {error}"
        return time.perf_counter() - started

    with ThreadPoolExecutor(len(calls)) as threads:
        told = list(threads.map(make, calls))
    return Crowd(
        Series([one for one in told if isinstance(one, float)]),
        tuple(one for one in told if isinstance(one, str)),
    )


def answers_row(family: str, name: str, crowd: Crowd, promise: Promise) -> Row:
    """How many were answered, of so many asked."""
    note = crowd.failures[0] if crowd.failures else ""
    return Row(family, name, "", crowd.answered, "asked", crowd.asked, promise, note)


def time_rows(family: str, name: str, crowd: Crowd, beside: str, baseline: Series) -> Iterator[Row]:
    """p50 and p99 of the calls that were answered."""
    if not crowd.answered:
        yield Row(family, f"{name}, p50", "ms", None, note=crowd.failures[0])
        return
    subject = crowd.series
    yield Row(family, f"{name}, p50", "ms", subject.median_ms, f"{beside}, p50", baseline.median_ms)
    yield Row(family, f"{name}, p99", "ms", subject.p99_ms, f"{beside}, p99", baseline.p99_ms)
