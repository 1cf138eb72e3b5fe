# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from atoll_server.runtimes.idmap import RANGE_SIZE, IdRange, IdRanges, NoRangeLeft

COUNT = 4


def test_when_all_are_taken_there_is_none() -> None:
    ranges = IdRanges(first=1000, count=1)
    ranges.take()

    with pytest.raises(NoRangeLeft):
        ranges.take()


def test_a_claimed_range_is_not_handed_out() -> None:
    ranges = IdRanges(first=1000, count=2)

    ranges.claim(1000)

    assert ranges.take() == IdRange(1000 + RANGE_SIZE)


class RangesNeverOverlap(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ranges = IdRanges(first=1000, count=COUNT)
        self.taken: list[IdRange] = []

    @rule()
    def take(self) -> None:
        if len(self.taken) == COUNT:
            with pytest.raises(NoRangeLeft):
                self.ranges.take()
        else:
            self.taken.append(self.ranges.take())

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if self.taken:
            given = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
            self.ranges.give_back(given)
            self.ranges.give_back(given)

    @invariant()
    def all_differ(self) -> None:
        assert len({taken.first for taken in self.taken}) == len(self.taken)


TestRanges = RangesNeverOverlap.TestCase
