# SPDX-License-Identifier: Apache-2.0
"""The life of a sandbox as a table. Nothing else compares states to decide what is legal.

creating ──► running ⇄ paused            any ──► terminated
                running, paused ──► failed ──► terminated
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime

from atoll_server.engine.model import Cause, Sandbox, State


class Event(enum.Enum):
    """What can happen to a sandbox."""

    STARTED = "started"
    PAUSED = "paused"
    RESUMED = "resumed"
    BROKE = "broke"
    ENDED = "ended"


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.CREATING, Event.STARTED): State.RUNNING,
    (State.RUNNING, Event.PAUSED): State.PAUSED,
    (State.PAUSED, Event.RESUMED): State.RUNNING,
    (State.RUNNING, Event.BROKE): State.FAILED,
    (State.PAUSED, Event.BROKE): State.FAILED,
    **{(state, Event.ENDED): State.TERMINATED for state in State},
}


class IllegalTransition(Exception):
    """Our own mistake: an event in a state that does not know it."""


def next_state(state: State, event: Event) -> State:
    """Where `event` leads from `state`. Ending is legal from everywhere, also twice."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"{event.value} in state {state.value}") from None


def is_legal(state: State, event: Event) -> bool:
    """Whether this can happen to a sandbox in that state."""
    return (state, event) in TRANSITIONS


def ended(sandbox: Sandbox, *, at: datetime, cause: Cause, detail: str | None) -> Sandbox:
    """The sandbox as it is once it has ended. What went wrong with it before is why."""
    return dataclasses.replace(
        sandbox,
        state=next_state(sandbox.state, Event.ENDED),
        terminated_at=at,
        cause=sandbox.cause or cause,
        detail=sandbox.detail or detail,
    )


def can_exec(state: State) -> bool:
    """Whether commands and file operations are possible."""
    return state is State.RUNNING


def can_measure(state: State) -> bool:
    """Whether there is something that uses the host."""
    return state in (State.RUNNING, State.PAUSED)


def is_ended(state: State) -> bool:
    """Whether the sandbox is gone for good; what remains is its record."""
    return state is State.TERMINATED


def is_live(state: State) -> bool:
    """Whether something of the sandbox may exist on the host."""
    return state is not State.TERMINATED


def holds_room(state: State) -> bool:
    """Whether it has what it was promised of the host. One that has failed has given it back."""
    return state in (State.CREATING, State.RUNNING, State.PAUSED)
