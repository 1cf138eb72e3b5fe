# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.clock import ManualClock
from atoll_server.engine.quotas import Bucket, Quota, Rate, fill, wait_for_token

RATES = st.builds(Rate, st.floats(0.01, 1000), st.floats(1, 100))
PAUSES = st.lists(st.floats(0, 100), max_size=100)


@given(rate=RATES, pauses=PAUSES)
def test_nobody_gets_more_than_the_burst_and_the_rate(rate: Rate, pauses: list[float]) -> None:
    quota, clock = Quota(rate), ManualClock()

    granted = 0
    for pause in pauses:
        clock.advance(pause)
        granted += quota.take("who", clock.monotonic()) == 0

    assert granted <= rate.burst + rate.per_second * clock.monotonic() + 0.001


@given(rate=RATES, pauses=PAUSES)
def test_whoever_waits_as_long_as_told_gets_through(rate: Rate, pauses: list[float]) -> None:
    quota, clock = Quota(rate), ManualClock()

    for pause in pauses:
        clock.advance(pause)
        wait = quota.take("who", clock.monotonic())
        if wait:
            clock.advance(wait)
            assert quota.take("who", clock.monotonic()) == 0


@given(rate=RATES, count=st.integers(1, 100))
def test_after_a_rest_the_burst_is_there_at_once(rate: Rate, count: int) -> None:
    quota = Quota(rate)

    granted = sum(quota.take("who", 1e6) == 0 for _ in range(count))

    assert granted == min(count, int(rate.burst + 1e-6))


@given(rate=RATES, tokens=st.floats(0, 100), now=st.floats(0, 1e6), back=st.floats(0, 1e6))
def test_a_clock_that_stands_still_or_errs_gives_nothing(
    rate: Rate, tokens: float, now: float, back: float
) -> None:
    filled = fill(Bucket(tokens, now), rate, now - back)

    assert filled.tokens <= tokens
    assert wait_for_token(filled, rate) >= 0


@given(whose=st.lists(st.text(max_size=3)), limit=st.integers(1, 5))
def test_table_has_a_bound_whoever_comes(whose: list[str], limit: int) -> None:
    quota = Quota(Rate(1, 1), known_limit=limit)

    for who in whose:
        quota.take(who, 0.0)

    assert len(quota) <= limit


def test_everyone_has_a_bucket_of_their_own_and_looking_takes_nothing() -> None:
    quota = Quota(Rate(1, 1))

    assert quota.wait("one", 0.0) == 0
    assert quota.take("one", 0.0) == 0
    assert quota.take("one", 0.0) == 1
    assert quota.take("two", 0.0) == 0
    assert quota.wait("one", 0.25) == 0.75


def test_who_took_least_recently_is_forgotten_first() -> None:
    quota = Quota(Rate(0.001, 2), known_limit=2)
    for who in ("one", "two", "one", "three"):
        quota.take(who, 0.0)

    assert quota.wait("one", 0.0) > 0
    assert quota.take("two", 0.0) == quota.take("two", 0.0) == 0
