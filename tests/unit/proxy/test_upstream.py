# SPDX-License-Identifier: Apache-2.0
"""Answers of programs, cut anywhere: read when they are as they should be, refused when not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.proxy.upstream import HEAD_BYTES, Answer, BadAnswer, Head, Unanswered

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"


class Said:
    """A connection on which these pieces come, and then the end."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    @property
    def left(self) -> int:
        return len(self._pieces)

    async def receive(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


async def read(*pieces: bytes, method: str = "GET") -> tuple[Head, bytes]:
    answer = Answer(Said(*pieces), method=method)
    head = await answer.head()
    body = b""
    while (piece := await answer.body()) is not None:
        body += piece
    return head, body


@pytest.mark.parametrize(
    ("said", "length", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", 5, b"hello"),
        (OK + b"Content-Length: 0\r\n\r\n", 0, b""),
        (OK + b"\r\nhello", None, b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", None, b"hello"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: 1\r\n\r\n", None, b"hello"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi", 2, b"hi"),
        (b"HTTP/1.1 103 Early\r\nA: b\r\n\r\n" * 3 + OK + b"Content-Length: 2\r\n\r\nhi", 2, b"hi"),
        (OK + b"Content-Length: 2\r\n\r\nhi" + OK + b"Content-Length: 4\r\n\r\nmore", 2, b"hi"),
        (OK + b"Content-Length: 2\r\n\r\nhi and what is no HTTP", 2, b"hi"),
    ],
)
async def test_answer_is_read_however_it_is_cut(
    said: bytes, length: int | None, body: bytes
) -> None:
    for size in (1, 7, len(said)):
        head, found = await read(*(said[at : at + size] for at in range(0, len(said), size)))

        assert (head.status, head.length, found) == (200, length, body)


@pytest.mark.parametrize(
    ("said", "method"),
    [
        (OK + b"Content-Length: 5\r\n\r\n", "HEAD"),
        (b"HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\n", "GET"),
        (b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n", "GET"),
    ],
)
async def test_answer_without_a_body_ends_with_its_head(said: bytes, method: str) -> None:
    head, body = await read(said, method=method)

    assert (head.has_body, body) == (False, b"")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 600 High\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        OK,
        OK + b"A: b\r\n",
        OK + b"Content-Length: 5\r\n\r\nhi",
        OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"Content-Length: +5\r\n\r\nhello",
        OK + b"Content-Length: 5, 5\r\n\r\nhello",
        OK + b"Content-Length: 9999999999999999999999\r\n\r\nhello",
        OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"A: b\rC: d\r\n\r\n",
        OK + b"A: b\x00\r\n\r\n",
        OK + b"A b: c\r\n\r\n",
        OK + b"A: b\r\n" * 300 + b"\r\n",
        OK + b"A: " + b"b" * (HEAD_BYTES + 1),
        OK + b"A: " + b"b" * HEAD_BYTES + b"\r\nContent-Length: 0\r\n\r\n",
        OK + (b"A: " + b"b" * 1024 + b"\r\n") * 64 + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early\r\n\r\n" * 20_000,
    ],
)
async def test_answer_that_is_none_is_refused(said: bytes) -> None:
    for size in (1 << 20, 65_536, 4096):
        with pytest.raises(BadAnswer):
            await read(*(said[at : at + size] for at in range(0, len(said), size)))


async def test_other_protocol_is_taken_up_where_it_was_asked_for() -> None:
    said = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw \x00"
    answer = Answer(Said(said), method="GET")

    head = await answer.head(may_switch=True)

    assert (head.status, answer.rest) == (101, b"raw \x00")


@given(st.binary(max_size=300), st.booleans())
async def test_whatever_comes_is_an_answer_or_refused(data: bytes, is_after_head: bool) -> None:
    said = OK + data if is_after_head else data

    try:
        head, _ = await read(said)
    except BadAnswer:
        return
    assert 200 <= head.status <= 599
    assert not any(b"\r" in value or b"\n" in value for _, value in head.headers)


@pytest.mark.parametrize(
    ("said", "may_be_followed"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 204 None\r\n\r\n", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n", True),
        (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", False),
        (OK + b"\r\nhello", False),
        (OK + b"Content-Length: 0\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n", False),
        (OK + b"Content-Length: 0\r\n\r\nwhat is no HTTP", False),
        (OK + b"Content-Length: 0\r\n\r\nH", False),
    ],
)
async def test_connection_goes_on_after_a_whole_answer_with_nothing_behind_it(
    said: bytes, may_be_followed: bool
) -> None:
    answer = Answer(Said(said), method="GET")

    await answer.head()
    while await answer.body() is not None:
        continue

    assert answer.may_be_followed is may_be_followed


@pytest.mark.parametrize(
    ("pieces", "may_be_followed"),
    [
        ((b"", b"hello"), True),
        ((b"he", b"l", b"lo"), True),
        ((b"he", b"llo" + OK), False),
        ((b"hello", b"never read"), True),
    ],
)
async def test_body_of_known_length_ends_where_it_must(
    pieces: tuple[bytes, ...], may_be_followed: bool
) -> None:
    head = OK + b"Content-Length: 5\r\n\r\n"
    answer = Answer(Said(head + pieces[0], *pieces[1:]), method="GET")

    await answer.head()
    body = b""
    while (piece := await answer.body()) is not None:
        body += piece

    assert (body, answer.may_be_followed) == (b"hello", may_be_followed)


async def test_body_of_known_length_that_breaks_off_is_refused() -> None:
    with pytest.raises(BadAnswer):
        await read(OK + b"Content-Length: 5\r\n\r\nhe", b"l")


async def test_trailers_are_apart_from_headers() -> None:
    said = OK + b"Transfer-Encoding: chunked\r\nA: 1\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n"
    answer = Answer(Said(said), method="GET")

    head = await answer.head()
    while await answer.body() is not None:
        continue

    assert answer.trailers == [(b"x-sum", b"7")]
    assert head.headers == [(b"transfer-encoding", b"chunked"), (b"a", b"1")]


@pytest.mark.parametrize("piece", [b"x" * 8192, b"x: y\r\n" * 1024])
async def test_trailers_without_an_end_are_refused(piece: bytes) -> None:
    body = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: "
    said = Said(body, *[piece] * 1000)
    answer = Answer(said, method="GET")
    await answer.head()

    assert await answer.body() == b"hello"
    with pytest.raises(BadAnswer):
        await answer.body()
    assert said.left > 900


async def test_connection_without_an_answer_is_told_from_a_bad_one() -> None:
    with pytest.raises(Unanswered):
        await read()
