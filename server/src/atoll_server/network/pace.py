# SPDX-License-Identifier: Apache-2.0
"""How much may pass in a second: what is too much waits, or is refused."""

from __future__ import annotations

from atoll_server.clock import Clock


class Pace:
    """A budget that refills at `rate` a second, up to `burst`."""

    def __init__(self, clock: Clock, rate: float, burst: float) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._read_at = clock.monotonic()

    def take_nowait(self, amount: float = 1.0) -> bool:
        """Take `amount` if it is there."""
        self._refill()
        if self._left < amount:
            return False
        self._left -= amount
        return True

    def take(self, amount: float) -> float:
        """Take `amount`, and tell in how many seconds what was not there will have come in."""
        self._refill()
        self._left -= amount
        return max(0.0, -self._left / self._rate)

    def _refill(self) -> None:
        now = self._clock.monotonic()
        self._left = min(self._burst, self._left + (now - self._read_at) * self._rate)
        self._read_at = now
