# SPDX-License-Identifier: Apache-2.0
"""Tokens of private ports: good for one port and one time, whatever is done to them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.clock import ManualClock
from atoll_server.engine.model import ExposedPort, SandboxId
from atoll_server.engine.preview_tokens import PreviewTokens, expiry

CLOCK = ManualClock()
PORT = ExposedPort(SandboxId("sb_1"), 3000, "label", True, datetime(2030, 1, 1, tzinfo=UTC))
OTHER = ExposedPort(SandboxId("sb_1"), 3001, "label", True, datetime(2030, 1, 1, tzinfo=UTC))
TOKENS = PreviewTokens(bytes(range(32)), CLOCK)


def test_token_opens_its_port_until_it_is_closed() -> None:
    token = TOKENS.make(PORT)

    assert TOKENS.is_good(token, PORT)
    assert expiry(token) is None
    assert TOKENS.seconds_left(token) is None
    assert TOKENS.make(PORT) == token


def test_token_with_an_end_opens_its_port_until_then() -> None:
    clock = ManualClock()
    tokens = PreviewTokens(bytes(32), clock)
    token = tokens.make(PORT, 9.5)

    assert expiry(token) == datetime(2030, 1, 1, 0, 0, 10, tzinfo=UTC)
    assert tokens.seconds_left(token) == 10
    clock.advance(9.9)
    assert tokens.is_good(token, PORT)
    clock.advance(0.1)
    assert not tokens.is_good(token, PORT)


def test_token_opens_nothing_else() -> None:
    token = TOKENS.make(PORT)

    assert not TOKENS.is_good(token, OTHER)
    assert not TOKENS.is_good(token, None)
    assert not PreviewTokens(bytes(32), CLOCK).is_good(token, PORT)


def test_end_of_a_token_cannot_be_put_off() -> None:
    until, _, signature = TOKENS.make(PORT, 1000).partition(".")

    for other in ("0", str(int(until) + 1), f"0{until}", "", "-1", "1e9"):
        assert not TOKENS.is_good(f"{other}.{signature}", PORT)


@given(st.text(max_size=80) | st.from_regex(r"\A[0-9]{1,12}\.[A-Za-z0-9_-]{43}\Z"))
def test_no_other_text_is_good(text: str) -> None:
    assert not TOKENS.is_good(text, PORT)


@pytest.mark.parametrize("at", range(45))
def test_altered_token_is_not_good(at: int) -> None:
    token = TOKENS.make(PORT)
    altered = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]

    # The last of 43 digits has two bits that mean nothing; spelt otherwise, the token is another all the same.
    assert not TOKENS.is_good(altered, PORT)
