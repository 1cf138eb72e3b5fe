# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from atoll_server.precedence import parse_nice


def test_the_nice_value_of_a_session_is_read() -> None:
    assert parse_nice("/autogroup-25 nice 0\n") == 0
    assert parse_nice("/autogroup-885295 nice -10\n") == -10


def test_what_is_not_a_sessions_is_none() -> None:
    assert parse_nice("") is None
    assert parse_nice("/autogroup-25 nice") is None
