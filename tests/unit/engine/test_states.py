# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.engine.model import State
from atoll_server.engine.states import (
    TRANSITIONS,
    Event,
    IllegalTransition,
    can_exec,
    is_ended,
    next_state,
)


def test_ending_is_legal_from_every_state_and_twice() -> None:
    for state in State:
        assert next_state(state, Event.ENDED) is State.TERMINATED


def test_only_a_running_sandbox_runs_commands() -> None:
    assert {state for state in State if can_exec(state)} == {State.RUNNING}


def test_an_event_in_a_state_that_does_not_know_it_is_refused() -> None:
    with pytest.raises(IllegalTransition):
        next_state(State.TERMINATED, Event.RESUMED)


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_a_terminated_sandbox_never_lives_again(events: list[Event]) -> None:
    state = State.CREATING
    ended = False
    for event in events:
        if (state, event) in TRANSITIONS:
            state = next_state(state, event)
        ended = ended or is_ended(state)

        assert is_ended(state) == ended
