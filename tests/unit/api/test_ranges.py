# SPDX-License-Identifier: Apache-2.0
"""Ranges of bytes as RFC 9110 has them, whatever a client makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.api.ranges import (
    LARGEST_NUMBER,
    SETTLED_NANOSECONDS,
    Part,
    Wanted,
    is_same,
    make_etag,
    parse_range,
    plan_part,
    render_content_range,
)
from atoll_server.engine.model import Entry, FileKind

SIZES = st.integers(1, LARGEST_NUMBER)
NUMBERS = st.integers(0, 2**200)
NOW = 10 * SETTLED_NANOSECONDS


def entry(*, size: int = 10, modified_ns: int = 0) -> Entry:
    return Entry(b"f", b"/f", FileKind.FILE, size, 0o644, 0, 0, None, None, modified_ns, None)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-0", Wanted(0, 0)),
        ("bytes=5-9", Wanted(5, 9)),
        ("bytes=5-", Wanted(5, None)),
        ("bytes=-5", Wanted(None, 5)),
        ("bytes=-0", Wanted(None, 0)),
        ("BYTES=007-0010", Wanted(7, 10)),
        (" bytes = 1-2 ", Wanted(1, 2)),
        ("bytes=,1-2,", Wanted(1, 2)),
    ],
)
def test_one_range_is_understood(header: str, wanted: Wanted) -> None:
    assert parse_range(header) == wanted


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=--1",
        "bytes=-1-2",
        "bytes=2-1",
        "bytes=0-1,3-4",
        "bytes=1",
        "bytes=a-b",
        "bytes=0x1-0x2",
        "bytes=1.0-2",
        "bytes=+1-2",
        "bytes=\u0661-\u0662",
        "bytes=1-2\n",
        "lines=0-1",
        "bytes=0-1=2",
        "bytes=" + "0-1," * 10_000,
        "none",
    ],
)
def test_anything_else_is_as_if_it_were_not_there(header: str) -> None:
    assert parse_range(header) is None


@given(header=st.text(max_size=50) | st.from_regex(r"bytes=[0-9,\- ]*", fullmatch=True))
def test_no_header_is_too_strange(header: str) -> None:
    wanted = parse_range(header)
    part = None if wanted is None else plan_part(wanted, 100)

    assert part is None or (part.length > 0 and part.offset + part.length <= 100)


@given(first=NUMBERS, more=st.none() | NUMBERS, size=SIZES)
def test_a_part_is_what_there_is_between_first_and_last(
    first: int, more: int | None, size: int
) -> None:
    last = None if more is None else first + more
    wanted = parse_range(f"bytes={first}-{'' if last is None else last}")
    assert wanted is not None

    part = plan_part(wanted, size)

    if first >= size:
        assert part is None
    else:
        assert part == Part(first, (size if last is None else min(size, last + 1)) - first)


@given(count=NUMBERS, size=SIZES)
def test_a_suffix_is_the_end_of_the_file(count: int, size: int) -> None:
    wanted = parse_range(f"bytes=-{count}")
    assert wanted is not None

    part = plan_part(wanted, size)

    expected = min(count, size)
    assert part == (Part(size - expected, expected) if expected else None)


@pytest.mark.parametrize("digits", [19, 4300, 60_000])
def test_numbers_of_any_length_cost_nothing(digits: int) -> None:
    many = "9" * digits

    assert parse_range(f"bytes=0-{many}") == Wanted(0, LARGEST_NUMBER)
    wanted = parse_range(f"bytes={many}-{many}")
    assert wanted is not None
    assert plan_part(wanted, LARGEST_NUMBER) is None


def test_content_range_counts_from_zero_and_its_end_is_in_it() -> None:
    assert render_content_range(Part(5, 3), 100) == "bytes 5-7/100"
    assert render_content_range(None, 100) == "bytes */100"


def test_a_file_that_changed_long_ago_has_a_strong_tag() -> None:
    tag = make_etag(entry(modified_ns=1), NOW)

    assert tag == '"1-a"'
    assert is_same('"1-a"', tag)
    assert is_same("", tag)


@pytest.mark.parametrize("modified_ns", [NOW - SETTLED_NANOSECONDS, NOW, NOW + 1, 2**63])
def test_one_that_changed_just_now_or_in_the_future_has_a_weak_one(modified_ns: int) -> None:
    tag = make_etag(entry(modified_ns=modified_ns), NOW)

    assert tag is not None
    assert tag.startswith("W/")
    assert not is_same(tag, tag)


def test_what_has_no_size_has_no_tag() -> None:
    assert make_etag(entry(size=0), NOW) is None


@pytest.mark.parametrize(
    "if_range", ['"1-b"', 'W/"1-a"', "1-a", "*", "Sat, 01 Jan 2000 00:00:00 GMT", '"1-a", "x"']
)
def test_any_other_tag_and_every_date_means_another_file(if_range: str) -> None:
    assert not is_same(if_range, make_etag(entry(modified_ns=1), NOW))


@given(
    one=st.tuples(st.integers(1, 2**62), st.integers(-(2**62), 0)),
    other=st.tuples(st.integers(1, 2**62), st.integers(-(2**62), 0)),
)
def test_another_size_or_time_is_another_tag(one: tuple[int, int], other: tuple[int, int]) -> None:
    tags = [make_etag(entry(size=size, modified_ns=at), NOW) for size, at in (one, other)]

    assert (tags[0] == tags[1]) == (one == other)
