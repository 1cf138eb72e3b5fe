# SPDX-License-Identifier: Apache-2.0
"""Which processes of a sandbox ran out of memory. Kept with its record, so that no restart of the server forgets it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

VERDICTS_KEPT: Final = 1024


class OomKills:
    """The kernel only counts its kills, so a process that was killed claims one of those that nobody has claimed.

    Whoever asks about a process first claims for it, and all others hear the same. `count` asks the kernel; `own` are
    the kills that we do for a kernel that would take all of the sandbox. `on_change` is told when `facts` are others.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self.own = 0
        self.on_change: Callable[[], object] = lambda: None
        self._count = count
        self._claimed = 0
        self._verdicts: dict[int, bool] = {}

    @property
    def is_unexplained(self) -> bool:
        """Whether there was a kill that no process has claimed: it may have been all of the sandbox."""
        return self._count() + self.own > self._claimed

    def note_own(self) -> None:
        """We have killed a process for its memory."""
        self.own += 1
        self.on_change()

    def was_killed(self, number: int) -> bool:
        """Whether the process of this number, which somebody killed, was killed for want of memory."""
        if number not in self._verdicts:
            if len(self._verdicts) >= VERDICTS_KEPT:
                self._verdicts.pop(next(iter(self._verdicts)))
            self._verdicts[number] = self._claim()
            if self._verdicts[number]:
                self.on_change()
        return self._verdicts[number]

    def facts(self) -> Mapping[str, Any]:
        """What the store keeps of it: numbers, and which processes it was."""
        killed = [number for number, was_killed in self._verdicts.items() if was_killed]
        return {"own": self.own, "claimed": self._claimed, "killed": killed}

    def restore(self, facts: Mapping[str, Any] | None) -> None:
        """Go on after a restart. What was killed meanwhile can be claimed; without facts, none that ever was."""
        if facts is None:
            self._claimed = self._count()
            return
        self.own, self._claimed = facts["own"], facts["claimed"]
        self._verdicts = dict.fromkeys(facts["killed"], True)

    def _claim(self) -> bool:
        if not self.is_unexplained:
            return False
        self._claimed += 1
        return True
