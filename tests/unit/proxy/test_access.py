# SPDX-License-Identifier: Apache-2.0
"""Tokens are found wherever they may be, and are not there any more when they have been taken out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.proxy import access

TOKEN = b"0." + b"a" * 43
OTHER = b"1999999999." + b"b" * 43
GIVEN = b"atoll-preview-token=" + TOKEN


def test_tokens_of_header_query_and_cookie_are_found_in_that_order() -> None:
    headers = [
        (b"cookie", b"x=1; atoll-preview=" + OTHER),
        (b"atoll-preview-token", TOKEN),
        (b"cookie", b"atoll-preview=" + TOKEN),
    ]

    found = list(access.tokens(headers, b"a=1&" + GIVEN))

    assert [token.encode() for token in found] == [TOKEN, TOKEN, OTHER, TOKEN]


def test_what_has_not_the_form_of_a_token_is_passed_over() -> None:
    headers = [(b"atoll-preview-token", b"\xff"), (b"cookie", b"atoll-preview; atoll-preview=")]

    assert (
        list(access.tokens(headers, b"atoll-preview-token=&x-atoll-preview-token=" + TOKEN)) == []
    )


def test_planted_cookies_cost_only_so_much() -> None:
    headers = [(b"cookie", b"; ".join([b"atoll-preview=" + OTHER] * 1000))]

    assert len(list(access.tokens(headers, b""))) == 8


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (GIVEN, b""),
        (GIVEN + b"&a=1", b"a=1"),
        (b"a=1&" + GIVEN, b"a=1"),
        (b"a=1&" + GIVEN + b"&b=2", b"a=1&b=2"),
        (GIVEN + b"&" + GIVEN + b"&a", b"a"),
        (b"a=1&", b"a=1&"),
        (b"x-" + GIVEN, b"x-" + GIVEN),
        (b"a=%26" + GIVEN, b"a=%26" + GIVEN),
        (b"", b""),
    ],
)
def test_query_is_left_without_the_token_and_else_as_it_was(query: bytes, left: bytes) -> None:
    assert access.without_token(query) == left


def test_referrer_is_left_without_the_token() -> None:
    assert access.without_token(b"http://x/y?" + GIVEN + b"&a=1") == b"http://x/y?a=1"
    assert access.without_token(b"http://x/y?" + GIVEN) == b"http://x/y"
    assert access.without_token(b"http://x/y?a#b") == b"http://x/y?a#b"


@given(st.lists(st.sampled_from([b"a=1", b"b", b"", GIVEN, b"?", b"&"]), max_size=8))
def test_no_query_keeps_a_token(pieces: list[bytes]) -> None:
    left = access.without_token(b"&".join(pieces))

    assert not access.has_token(left)


def test_cookies_of_others_are_kept_as_they_were() -> None:
    headers = [
        (b"cookie", b'a="1"; atoll-preview=' + TOKEN + b"; b; c=d=e"),
        (b"cookie", b"f=g"),
    ]

    assert access.cookie_header(headers) == b'a="1"; b; c=d=e; f=g'
    assert access.cookie_header([(b"cookie", b"atoll-preview=x")]) == b""


def test_cookie_is_for_one_host_and_no_script() -> None:
    kept = access.set_cookie("0.x", None, is_secure=False)
    timed = access.set_cookie("0.x", -5, is_secure=True)

    assert kept == b"atoll-preview=0.x; Path=/; HttpOnly; SameSite=Lax"
    assert timed == b"atoll-preview=0.x; Path=/; HttpOnly; SameSite=Lax; Max-Age=0; Secure"
