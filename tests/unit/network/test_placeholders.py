# SPDX-License-Identifier: Apache-2.0
"""Placeholders in heads and bodies, wherever these are cut."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.placeholders import (
    MIN_MASKED,
    Mask,
    Misplaced,
    Watch,
    check_head,
    fill,
    hide,
)
from atoll_server.network.secrets import Secret, parse_secrets

VALUE = "abababab-the-value"
PLACEHOLDER = "atoll-secret-0123456789abcdef0123456789abcdef"
SECRET = Secret("KEY", PLACEHOLDER, ("a.test",), None, VALUE)
STRICT = Secret("KEY", PLACEHOLDER, ("a.test",), "X-Token", VALUE)
FIRST = b"GET / HTTP/1.1"
HELD = PLACEHOLDER.encode()

cuts = st.lists(st.integers(1, 30), max_size=80)
# Letters of which values are made, so that beginnings of them are everywhere.
streams = st.lists(
    st.sampled_from([b"a", b"b", b"ab", b"abababab", b"-the", b"abababab-the-value", b"aabbaabb"]),
    max_size=40,
).map(b"".join)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    cut = []
    for size in [*sizes, len(data) + 1]:
        cut.append(data[:size])
        data = data[size:]
    return cut


def basic(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


@pytest.mark.parametrize(
    ("field", "filled"),
    [
        ((b"Authorization", b"Bearer " + HELD), (b"Authorization", b"Bearer " + VALUE.encode())),
        ((b"x-any", HELD + b"," + HELD), (b"x-any", b",".join([VALUE.encode()] * 2))),
        (
            (b"authorization", basic(b"user:" + HELD)),
            (b"authorization", basic(b"user:" + VALUE.encode())),
        ),
        ((b"Authorization", b"Basic !!"), (b"Authorization", b"Basic !!")),
        ((b"X-Other", basic(HELD)), (b"X-Other", basic(HELD))),
    ],
)
def test_value_takes_the_place_of_its_placeholder(
    field: tuple[bytes, bytes], filled: tuple[bytes, bytes]
) -> None:
    assert fill(FIRST, (field,), [SECRET]) == (filled,)


@pytest.mark.parametrize(
    ("first", "field", "secret"),
    [
        (b"GET /?key=" + HELD + b" HTTP/1.1", (b"Host", b"a.test"), SECRET),
        (FIRST, (HELD, b"x"), SECRET),
        (FIRST, (b"Authorization", HELD), STRICT),
        (FIRST, (b"Authorization", basic(b"user:" + HELD)), STRICT),
    ],
)
def test_placeholder_elsewhere_is_misplaced(
    first: bytes, field: tuple[bytes, bytes], secret: Secret
) -> None:
    with pytest.raises(Misplaced, match="KEY") as raised:
        fill(first, (field,), [secret])
    assert VALUE not in str(raised.value)
    with pytest.raises(Misplaced, match="stays here"):
        check_head(first, (field,), [secret])


def test_head_does_not_grow_without_end() -> None:
    long = Secret("KEY", PLACEHOLDER, ("a.test",), None, "x" * 32_000)

    with pytest.raises(Misplaced, match="more than"):
        fill(FIRST, ((b"X", HELD * 5),), [long])


def test_header_of_a_response_has_a_placeholder_for_a_value() -> None:
    fields = ((b"Set-Cookie", b"k=" + VALUE.encode()), (b"Date", b"now"))

    assert hide(fields, [SECRET]) == ((b"Set-Cookie", b"k=" + HELD), (b"Date", b"now"))


@given(st.binary(max_size=100), st.binary(max_size=100), cuts)
def test_placeholder_is_seen_wherever_the_stream_is_cut(
    before: bytes, after: bytes, sizes: list[int]
) -> None:
    watch = Watch([SECRET])

    def feed_all() -> None:
        for piece in pieces(before + HELD + after, sizes):
            watch.feed(piece)

    with pytest.raises(Misplaced):
        feed_all()


@given(st.binary(max_size=200), cuts)
def test_stream_without_a_placeholder_passes(data: bytes, sizes: list[int]) -> None:
    watch = Watch([SECRET])
    for piece in pieces(data + HELD[:-1], sizes):
        watch.feed(piece)


@given(streams, cuts)
def test_mask_hides_the_same_wherever_the_stream_is_cut(data: bytes, sizes: list[int]) -> None:
    secrets = [SECRET, Secret("B", "atoll-secret-b", ("a.test",), None, "aabbaabb")]
    mask = Mask(secrets)

    told = b"".join(mask.feed(piece) for piece in pieces(data, sizes)) + mask.finish()

    whole = Mask(secrets)
    assert told == whole.feed(data) + whole.finish()
    assert len(told) == len(data)
    expected = re.sub(
        rb"abababab-the-value|aabbaabb",
        lambda it: HELD[: len(it[0])] if it[0] == VALUE.encode() else b"atoll-se",
        data,
    )
    assert told == expected


@given(streams, cuts)
def test_mask_holds_back_less_than_a_value(data: bytes, sizes: list[int]) -> None:
    mask, fed, told = Mask([SECRET]), 0, 0
    for piece in pieces(data, sizes):
        fed += len(piece)
        told += len(mask.feed(piece))
        assert fed - told < len(VALUE)


@pytest.mark.parametrize("end", [b"a", b"b", b"c"])
def test_a_stream_made_for_its_values_is_not_looked_at_for_long(end: bytes) -> None:
    """Compared at each of its places, one piece of it would take a second, and all of these this test's time."""
    long, other = "a" * 20_000 + "b", "c" * 8
    secrets = [Secret("KEY", PLACEHOLDER, ("a.test",), None, value) for value in (long, other)]
    mask, piece = Mask(secrets), b"a" * 65_535 + end

    told = b"".join(mask.feed(piece) for _ in range(120)) + mask.finish()

    hidden = HELD.ljust(len(long), b"*")
    assert told == (piece * 120).replace(long.encode(), hidden)


def test_what_often_looks_like_a_beginning_is_held_back_like_one() -> None:
    mask = Mask([Secret("KEY", PLACEHOLDER, ("a.test",), None, "a" * 20_000 + "b")])
    stream = b"a" * 30_000 + b"c"

    told = mask.feed(stream)

    assert len(stream) - len(told) < 20_001
    assert told + mask.finish() == stream


def test_mask_is_filled_up_for_values_longer_than_a_placeholder() -> None:
    mask = Mask([Secret("KEY", PLACEHOLDER, ("a.test",), None, "v" * 50)])

    assert mask.feed(b"v" * 50) + mask.finish() == HELD + b"*" * 5


def test_value_too_short_to_be_found_is_left() -> None:
    short = Secret("KEY", PLACEHOLDER, ("a.test",), None, "x" * (MIN_MASKED - 1))
    mask = Mask([short])

    assert mask.feed(b"x" * 20) + mask.finish() == b"x" * 20
    assert hide(((b"X", b"x" * 20),), [short]) == ((b"X", b"x" * 20),)


def test_placeholders_are_as_long_as_is_looked_for() -> None:
    class Written:
        value = VALUE
        hosts = ("a.test",)
        header = None

    (secret,) = parse_secrets({"KEY": Written()})
    assert re.fullmatch(r"atoll-secret-[0-9a-f]{32}", secret.placeholder)
