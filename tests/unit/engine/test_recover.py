# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atoll_server.engine.model import SandboxId, State
from atoll_server.engine.recover import plan_recovery

IDS = st.sampled_from([SandboxId(f"sb_{letter}") for letter in "abcdef"])


def test_a_sandbox_that_runs_is_adopted() -> None:
    plan = plan_recovery([(SandboxId("sb_a"), State.RUNNING)], alive={"sb_a"}, remains={"sb_a"})

    assert plan.adopt == ("sb_a",)
    assert plan.lose == plan.sweep == ()


def test_a_sandbox_that_was_being_created_is_lost_even_if_it_runs() -> None:
    plan = plan_recovery([(SandboxId("sb_a"), State.CREATING)], alive={"sb_a"}, remains={"sb_a"})

    assert plan.lose == ("sb_a",)


def test_remains_that_nobody_remembers_are_swept() -> None:
    plan = plan_recovery([], alive=(), remains={"sb_b", "sb_a"})

    assert plan.sweep == ("sb_a", "sb_b")


@given(st.dictionaries(IDS, st.sampled_from(State)), st.sets(IDS), st.sets(IDS))
def test_everything_has_exactly_one_fate(
    remembered: dict[SandboxId, State], alive: set[SandboxId], remains: set[SandboxId]
) -> None:
    plan = plan_recovery(list(remembered.items()), alive=alive, remains=remains)

    fates = (*plan.adopt, *plan.lose, *plan.sweep)
    assert len(set(fates)) == len(fates)
    assert set(fates) == set(remembered) | remains
    assert set(plan.adopt) <= alive
