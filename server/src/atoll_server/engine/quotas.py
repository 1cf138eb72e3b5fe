# SPDX-License-Identifier: Apache-2.0
"""How often someone may do something: token buckets, one for each who asks, in a table of bounded size."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

KNOWN_LIMIT = 10_000
# What adding up fractions may lose: whoever waited as long as they were told has their token.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Rate:
    """`per_second` in the long run, `burst` at once after a rest. Both are above 0, `burst` at least 1."""

    per_second: float
    burst: float


@dataclass(frozen=True)
class Bucket:
    """So many tokens at that moment."""

    tokens: float
    at: float


def fill(bucket: Bucket | None, rate: Rate, now: float) -> Bucket:
    """The bucket as it is by now. None is one that nobody has taken from, which is full."""
    if bucket is None:
        return Bucket(rate.burst, now)
    gained = max(0.0, now - bucket.at) * rate.per_second
    return Bucket(min(rate.burst, bucket.tokens + gained), now)


def wait_for_token(bucket: Bucket, rate: Rate) -> float:
    """Seconds until a token can be taken from a bucket that was just filled; 0 if there is one."""
    return 0.0 if bucket.tokens >= 1 - _ROUNDING else (1 - bucket.tokens) / rate.per_second


class Quota:
    """A bucket for each who asks. Of too many, who took least recently is forgotten, and begins anew."""

    def __init__(self, rate: Rate, known_limit: int = KNOWN_LIMIT) -> None:
        self._rate = rate
        self._known_limit = known_limit
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, who: str, now: float) -> float:
        """Seconds until they may; 0 if they may now."""
        return wait_for_token(fill(self._buckets.get(who), self._rate, now), self._rate)

    def take(self, who: str, now: float) -> float:
        """The same, and count it if they may."""
        bucket = fill(self._buckets.get(who), self._rate, now)
        wait = wait_for_token(bucket, self._rate)
        if wait == 0.0:
            self._buckets[who] = Bucket(bucket.tokens - 1, now)
            self._buckets.move_to_end(who)
            if len(self._buckets) > self._known_limit:
                self._buckets.popitem(last=False)
        return wait
