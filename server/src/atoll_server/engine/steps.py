# SPDX-License-Identifier: Apache-2.0
"""Doing things in steps that can be undone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Step(Generic[Subject]):
    """`undo` may be called after a `do` that failed half-way, and twice; it then finishes what is left."""

    name: str
    do: Callable[[Subject], None]
    undo: Callable[[Subject], None]


def run_steps(steps: Sequence[Step[Subject]], subject: Subject) -> None:
    """Do each step in order. When one fails, it and those before it are undone, last first, and the error goes on."""
    for number, step in enumerate(steps):
        try:
            step.do(subject)
        except BaseException:
            undo_steps(steps[: number + 1], subject)
            raise


def undo_steps(steps: Sequence[Step[Subject]], subject: Subject) -> bool:
    """Undo each step, last first. One that fails is logged and does not stop the others; True if none did."""
    complete = True
    for step in reversed(steps):
        try:
            step.undo(subject)
        except Exception:
            complete = False
            _log.exception("undo of step %s failed for %r", step.name, subject)
    return complete
