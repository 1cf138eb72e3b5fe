# SPDX-License-Identifier: Apache-2.0
"""Timing, and the records that the families of rows give back.

A subject and its baselines are measured in turn, call by call, so that whatever else the machine does hits them alike.
What is compared is their ratio within one run.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar


class Verdict(Enum):
    """Whether a row's promise held."""

    KEPT = "kept"
    BROKEN = "broken"
    NONE = "none"


@dataclass(frozen=True)
class Promise:
    """What `SPECIFICATION.md` says of a row: its ratio to the baseline is at most, or at least, this."""

    name: str
    at_most: float | None = None
    at_least: float | None = None

    def judge(self, ratio: float) -> Verdict:
        """Whether the ratio is within the promise."""
        kept = (self.at_most is None or ratio <= self.at_most) and (
            self.at_least is None or ratio >= self.at_least
        )
        return Verdict.KEPT if kept else Verdict.BROKEN

    def __str__(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g} ×"
        return f"≥ {self.at_least:g} ×"


@dataclass(frozen=True)
class Row:
    """One measured number beside its baseline. `value` None means not measured; `note` says why."""

    family: str
    name: str
    unit: str
    value: float | None
    baseline_name: str = ""
    baseline: float | None = None
    promise: Promise | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times the baseline."""
        if self.value is None or not self.baseline:
            return None
        return self.value / self.baseline

    @property
    def verdict(self) -> Verdict:
        """Whether the promise was kept; none without a promise or a ratio."""
        if self.promise is None or self.ratio is None:
            return Verdict.NONE
        return self.promise.judge(self.ratio)


@dataclass
class Series:
    """Seconds of every call of one subject."""

    seconds: list[float] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """The value below which so many percent lie, nearest rank, in seconds."""
        ranked = sorted(self.seconds)
        return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]

    @property
    def median_ms(self) -> float:
        """p50 in milliseconds."""
        return self.percentile(50) * 1000

    @property
    def p99_ms(self) -> float:
        """p99 in milliseconds."""
        return self.percentile(99) * 1000


Call = Callable[[], object]
Name = TypeVar("Name")


def interleave(
    subjects: Mapping[str, Call],
    *,
    rounds: int,
    warmup: int = 3,
    burst: int = 1,
    after: Mapping[str, Call] | None = None,
) -> dict[str, Series]:
    """Call every subject `burst` times a round, in a rotating order.

    With bursts, what the machine still holds of the other subjects is gone after a burst's first call. `after` runs
    untimed behind each call of the subject of its name.
    """
    names = list(subjects)
    series = {name: Series() for name in names}
    cleanups = after or {}
    gc.collect()
    for number in range(warmup + rounds):
        for name in rotated(names, number):
            for _ in range(burst):
                started = time.perf_counter()
                subjects[name]()
                took = time.perf_counter() - started
                cleanups.get(name, _nothing)()
                if number >= warmup:
                    series[name].seconds.append(took)
    return series


def rotated(names: Sequence[Name], by: int) -> list[Name]:
    """The same names, beginning `by` further on."""
    shift = by % len(names)
    return [*names[shift:], *names[:shift]]


def _nothing() -> None:
    return None
