# SPDX-License-Identifier: Apache-2.0
"""What the engine counts of itself: on the event loop alone, by additions. Nothing here waits or locks."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from atoll_server.engine.model import Cause, RuntimeKind, State

# Seconds: from less than any exec takes to the longest that one may.
EXEC_BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)


@dataclass(frozen=True)
class Durations:
    """`counts[n]` lasted at most `bounds[n]` seconds and longer than the bound before; the last, longer than any."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True)
class EngineStatistics:
    """Counts since the server's start, except `sandboxes`, which are those of now."""

    sandboxes: Mapping[tuple[State, RuntimeKind], int]
    created: Mapping[RuntimeKind, int]
    ended: Mapping[tuple[Cause, RuntimeKind], int]
    execs: Mapping[RuntimeKind, Durations]


class Tally:
    """Counts what happens."""

    def __init__(self) -> None:
        self._created: Counter[RuntimeKind] = Counter()
        self._ended: Counter[tuple[Cause, RuntimeKind]] = Counter()
        self._execs = {kind: [0] * (len(EXEC_BOUNDS) + 1) for kind in RuntimeKind}
        self._exec_seconds = dict.fromkeys(RuntimeKind, 0.0)

    def note_created(self, kind: RuntimeKind) -> None:
        self._created[kind] += 1

    def note_ended(self, kind: RuntimeKind, cause: Cause) -> None:
        self._ended[cause, kind] += 1

    def note_exec(self, kind: RuntimeKind, seconds: float) -> None:
        self._execs[kind][bisect_left(EXEC_BOUNDS, seconds)] += 1
        self._exec_seconds[kind] += seconds

    def statistics(self, sandboxes: Mapping[tuple[State, RuntimeKind], int]) -> EngineStatistics:
        """A copy of the counts, beside what there is now."""
        execs = {
            kind: Durations(EXEC_BOUNDS, tuple(counts), self._exec_seconds[kind])
            for kind, counts in self._execs.items()
        }
        return EngineStatistics(sandboxes, dict(self._created), dict(self._ended), execs)
