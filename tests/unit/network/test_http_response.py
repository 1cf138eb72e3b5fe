# SPDX-License-Identifier: Apache-2.0
"""Responses, read for certain or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.http_body import MalformedBody
from atoll_server.network.http_response import (
    LAST_CHUNK,
    MAX_RESPONSE_HEAD,
    UNTIL_END,
    BadResponse,
    ResponseBody,
    ResponseHead,
    chunk,
    read_response_head,
)
from atoll_server.network.outcomes import Incomplete


def read(text: str, method: str = "GET") -> ResponseHead:
    head = read_response_head(text.encode(), method)
    assert isinstance(head, ResponseHead)
    return head


@pytest.mark.parametrize(
    ("text", "method", "length"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", 5),
        ("HTTP/1.1 200\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "GET", 5),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", "GET", None),
        ("HTTP/1.0 200 OK\r\n\r\n", "GET", UNTIL_END),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", 0),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET", 0),
        ("HTTP/1.1 204 No Content\r\n\r\n", "GET", 0),
    ],
)
def test_body_ends_where_the_head_says(text: str, method: str, length: int | None) -> None:
    assert read(text, method).length == length


def test_head_is_passed_on_with_an_end_of_the_connection() -> None:
    head = read("HTTP/1.1 200 OK\r\nX: 1\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n")

    rendered = b"HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    assert head.render(head.fields) == rendered


def test_interim_head_is_passed_on_as_it_is() -> None:
    head = read("HTTP/1.1 100 Continue\r\n\r\n")

    assert head.is_interim
    assert head.render(head.fields) == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    "text",
    [
        "HTTP/2 200\r\n\r\n",
        "220 ready\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "x" * MAX_RESPONSE_HEAD,
    ],
)
def test_doubtful_response_is_refused(text: str) -> None:
    with pytest.raises(BadResponse):
        read_response_head(text.encode(), "GET")


def test_half_a_head_is_incomplete() -> None:
    assert isinstance(read_response_head(b"HTTP/1.1 200 OK\r\nX: 1\r\n", "GET"), Incomplete)


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.lists(st.integers(1, 9), max_size=50),
)
def test_chunks_come_out_as_they_were_put_in(said: list[bytes], sizes: list[int]) -> None:
    framed = b"".join(map(chunk, said)) + LAST_CHUNK
    body, heard, at = ResponseBody(None), b"", 0

    for size in [*sizes, len(framed)]:
        heard += body.take(framed[at : at + size])
        at += size

    assert heard == b"".join(said)
    assert body.is_done


def test_body_is_no_longer_than_was_told() -> None:
    body = ResponseBody(3)

    assert (body.take(b"ab"), body.is_done) == (b"ab", False)
    assert (body.take(b"cd"), body.is_done) == (b"c", True)


def test_broken_chunks_are_no_body() -> None:
    with pytest.raises(MalformedBody):
        ResponseBody(None).take(b"zz\r\n")
