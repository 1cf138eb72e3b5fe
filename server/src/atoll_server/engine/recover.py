# SPDX-License-Identifier: Apache-2.0
"""What to do at start-up with what the store remembers and what the host still has. Decides only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from atoll_server.engine.model import SandboxId, State


@dataclass(frozen=True)
class RecoveryPlan:
    """`adopt`: goes on running. `lose`: recorded as ended, its remains removed. `sweep`: remains nobody remembers."""

    adopt: tuple[SandboxId, ...]
    lose: tuple[SandboxId, ...]
    sweep: tuple[SandboxId, ...]


def plan_recovery(
    remembered: Collection[tuple[SandboxId, State]],
    *,
    alive: Collection[str],
    remains: Collection[str],
) -> RecoveryPlan:
    """Compare both ways. One that was still being created is lost: nobody ever got its id."""
    adopt = tuple(
        i for i, state in remembered if i in alive and state in (State.RUNNING, State.PAUSED)
    )
    lose = tuple(i for i, _ in remembered if i not in adopt)
    known = {i for i, _ in remembered}
    return RecoveryPlan(adopt, lose, tuple(SandboxId(i) for i in sorted(set(remains) - known)))
