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


@pytest.mark.parametrize(("keep", "said"), [(True, b"keep-alive"), (False, b"close")])
def test_head_is_passed_on_with_what_becomes_of_the_connection(keep: bool, said: bytes) -> None:
    head = read("HTTP/1.1 200 OK\r\nX: 1\r\nConnection: foo\r\nContent-Length: 5\r\n\r\n")

    rendered = b"HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 5\r\nConnection: %s\r\n\r\n" % said
    assert head.render(head.fields, keep=keep) == rendered


@pytest.mark.parametrize(
    ("text", "method", "may_keep"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", True),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", True),
        ("HTTP/1.1 200 OK\r\n\r\n", "HEAD", True),
        ("HTTP/1.1 204 No Content\r\n\r\n", "GET", True),
        ("HTTP/1.1 200 OK\r\n\r\n", "GET", False),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", "GET", False),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\n", "GET", False),
    ],
)
def test_connection_may_be_kept_after_an_answer_whose_end_is_certain(
    text: str, method: str, may_keep: bool
) -> None:
    assert read(text, method).may_keep == may_keep


# Of the WebSocket protocol's own example.
KEY, ACCEPTED = b"dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
SWITCH = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPTED}\r\n"
)


def test_agreement_on_a_websocket_is_passed_on() -> None:
    head = read_response_head(f"{SWITCH}X: 1\r\n\r\nframes".encode(), "GET", KEY)

    assert isinstance(head, ResponseHead)
    assert (head.is_switching, head.is_interim, head.may_keep) == (True, False, False)
    assert (
        head.render(head.fields)
        == (
            f"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPTED}\r\nX: 1\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        ).encode()
    )


@pytest.mark.parametrize(
    "text",
    [
        f"{SWITCH}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        f"{SWITCH}Sec-WebSocket-Accept: {ACCEPTED}\r\n\r\n",
        SWITCH.replace("s3p", "S3p") + "\r\n",
        SWITCH.replace("WebSocket\r", "h2c\r") + "\r\n",
        SWITCH.replace("upgrade\r", "close\r") + "\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_switch_to_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadResponse):
        read_response_head(text.encode(), "GET", KEY)


@given(st.binary(max_size=300), st.sampled_from([None, KEY]))
def test_any_bytes_are_a_response_or_not(data: bytes, key: bytes | None) -> None:
    for text in (data, SWITCH.encode() + data, b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n"):
        try:
            assert isinstance(read_response_head(text, "GET", key), ResponseHead | Incomplete)
        except BadResponse:
            continue


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
    assert not body.is_overrun
    assert (body.take(b"cd"), body.is_done) == (b"c", True)
    assert body.is_overrun


def test_what_follows_chunks_is_none_of_theirs() -> None:
    body = ResponseBody(None)

    assert body.take(b"1\r\nx\r\n" + LAST_CHUNK) == b"x"
    assert not body.is_overrun
    assert body.take(b"HTTP/1.1 200 OK") == b""
    assert body.is_overrun


def test_broken_chunks_are_no_body() -> None:
    with pytest.raises(MalformedBody):
        ResponseBody(None).take(b"zz\r\n")
