# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from atoll import _requests, errors
from atoll._answers import parse_retry_after, plan_resend
from atoll._config import parse_url
from atoll._requests import Resend
from atoll._route import Route

LOST = errors.ConnectionLost("lost")
REFUSED = errors.ConnectFailed("refused")
BROKEN = errors.Internal("broken")
BUSY = errors.ResourceExhausted("busy")
LATE = errors.Timeout("late")
WRONG = errors.InvalidRequest("wrong")


@pytest.mark.parametrize(
    ("error", "always", "refused", "never"),
    [
        (REFUSED, True, True, True),
        (LOST, True, False, False),
        (BROKEN, True, False, False),
        (BUSY, True, True, False),
        (LATE, False, False, False),
        (WRONG, False, False, False),
    ],
)
def test_what_may_be_sent_again(
    error: errors.Error, always: bool, refused: bool, never: bool
) -> None:
    def plan(resend: Resend) -> bool:
        return (
            plan_resend(error, resend, sent_before=1, max_retries=2, retry_after=None, chance=0.5)
            is not None
        )

    assert (plan(Resend.ALWAYS), plan(Resend.REFUSED), plan(Resend.NEVER)) == (
        always,
        refused,
        never,
    )


def _delay(
    sent_before: int, *, retry_after: float | None = None, chance: float = 1.0
) -> float | None:
    return plan_resend(
        BROKEN,
        Resend.ALWAYS,
        sent_before=sent_before,
        max_retries=8,
        retry_after=retry_after,
        chance=chance,
    )


def test_waits_double_and_are_bounded_and_spread() -> None:
    assert [_delay(sent) for sent in (1, 2, 3, 7, 8)] == [0.25, 0.5, 1.0, 8.0, 8.0]
    assert _delay(1, chance=0.0) == 0.125
    assert _delay(9) is None


def test_the_server_says_how_long_to_wait() -> None:
    assert _delay(1, retry_after=7.0) == 7.0
    assert _delay(1, retry_after=31.0) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"3", 3.0), (b" 0 ", 0.0), (b"-1", None), (b"soon", None), (b"1.5", None)],
)
def test_retry_after_is_seconds(value: bytes, seconds: float | None) -> None:
    assert parse_retry_after([(b"RETRY-AFTER", value)]) == seconds


@pytest.mark.parametrize(
    ("timeout_ms", "framed", "wait"),
    [(None, False, 75.0), (1000, False, 16.0), (300_000, False, 315.0), (300_000, True, 60.0)],
)
def test_a_command_is_waited_for_longer_than_it_may_run(
    timeout_ms: int | None, framed: bool, wait: float
) -> None:
    request = _requests.execute("sb_1", {"command": "x", "timeout_ms": timeout_ms}, framed=framed)

    assert request.wait == wait


def test_a_route_keeps_base_path_and_port() -> None:
    route = Route(parse_url("https://[::1]:8443/team/"), "k")

    outgoing = route.render(_requests.health(), None, 5.0)

    assert outgoing.url.target == b"/team/v1/health"
    assert (b"Host", b"[::1]:8443") in outgoing.headers
    assert outgoing.extensions["timeout"]["read"] == 5.0
