# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from atoll_server.engine.expiry import Deadlines
from atoll_server.engine.model import SandboxId

IDS = st.sampled_from([SandboxId(f"sb_{letter}") for letter in "abcdef"])
MOMENTS = st.integers(0, 50).map(float)


def test_a_moved_deadline_is_due_at_its_new_moment_only() -> None:
    deadlines = Deadlines()
    deadlines.set(SandboxId("sb_a"), 1.0)

    deadlines.set(SandboxId("sb_a"), 5.0)

    assert deadlines.take_due(4.0) == ()
    assert deadlines.take_due(5.0) == (SandboxId("sb_a"),)
    assert deadlines.next() is None


class DeadlinesAgainstDictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Deadlines()
        self.model: dict[SandboxId, float] = {}

    @rule(sandbox_id=IDS, at=MOMENTS)
    def set(self, sandbox_id: SandboxId, at: float) -> None:
        self.deadlines.set(sandbox_id, at)
        self.model[sandbox_id] = at

    @rule(sandbox_id=IDS)
    def drop(self, sandbox_id: SandboxId) -> None:
        self.deadlines.drop(sandbox_id)
        self.model.pop(sandbox_id, None)

    @rule(now=MOMENTS)
    def take_due(self, now: float) -> None:
        due = self.deadlines.take_due(now)

        assert len(set(due)) == len(due)
        assert set(due) == {i for i, at in self.model.items() if at <= now}
        assert [self.model[i] for i in due] == sorted(self.model[i] for i in due)
        for sandbox_id in due:
            del self.model[sandbox_id]

    @invariant()
    def next_is_the_soonest(self) -> None:
        assert self.deadlines.next() == min(self.model.values(), default=None)


TestDeadlines = DeadlinesAgainstDictionary.TestCase
