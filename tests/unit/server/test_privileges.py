# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from atoll_server.privileges import KEPT, find_missing


def test_nothing_is_missing_where_everything_is_held() -> None:
    assert find_missing(-1) == ()


def test_what_is_needed_is_missing_where_nothing_is_held() -> None:
    missing = find_missing(0)

    assert missing == tuple(one for one in KEPT if one.needed)
    assert {one.name for one in KEPT} - {one.name for one in missing} == {
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
    }


def test_a_single_one_that_is_missing_is_found() -> None:
    for one in KEPT:
        assert find_missing(~(1 << one.number)) == ((one,) if one.needed else ())


def test_dropping_takes_a_capability_of_its_own_where_there_is_something_to_drop() -> None:
    kept = sum(1 << one.number for one in KEPT)

    assert find_missing(kept) == ()
    assert [one.name for one in find_missing(kept | 1 << 16)] == ["CAP_SETPCAP"]


def test_numbers_are_in_order_and_once() -> None:
    numbers = [one.number for one in KEPT]

    assert numbers == sorted(set(numbers))
