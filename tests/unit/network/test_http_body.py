# SPDX-License-Identifier: Apache-2.0
"""Where bodies end, however they arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.http_body import (
    MAX_LINE,
    MAX_TRAILERS,
    Body,
    ChunkedBody,
    LengthBody,
    MalformedBody,
)

cuts = st.lists(st.integers(1, 20), max_size=60)


def take_in_pieces(body: Body, data: bytes, sizes: list[int]) -> bytes:
    taken = b""
    for size in [*sizes, len(data) + 1]:
        piece, data = data[:size], data[size:]
        taken += body.take(piece)
    return taken


@given(st.binary(max_size=200), st.binary(max_size=50), cuts)
def test_length_ends_the_body(content: bytes, after: bytes, sizes: list[int]) -> None:
    body = LengthBody(len(content))

    assert take_in_pieces(body, content + after, sizes) == content
    assert body.is_done


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.binary(max_size=50), cuts)
def test_last_chunk_ends_the_body(chunks: list[bytes], after: bytes, sizes: list[int]) -> None:
    sent = b"".join(b"%x;note=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    sent += b"0\r\nX-Sum: 1\r\n\r\n"
    body = ChunkedBody()

    assert take_in_pieces(body, sent + after, sizes) == sent
    assert body.is_done


@given(st.binary(max_size=200), cuts)
def test_any_bytes_are_taken_or_refused(data: bytes, sizes: list[int]) -> None:
    try:
        taken = take_in_pieces(ChunkedBody(), data, sizes)
    except MalformedBody:
        return
    assert data.startswith(taken)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"x\r\n", id="no number"),
        pytest.param(b"-1\r\n", id="negative"),
        pytest.param(b"0x1\r\n", id="with a prefix"),
        pytest.param(b"1 \r\n", id="space behind it"),
        pytest.param(b"1" * 16 + b"\r\n", id="too large"),
        pytest.param(b"1\na\r\n", id="line feed alone"),
        pytest.param(b"1\r\nab\r\n", id="longer than it says"),
        pytest.param(b"0\r\nno field\r\n", id="trailer that is no field"),
        pytest.param(b"1;\x00\r\n", id="control character"),
        pytest.param(b"1;" + b"x" * MAX_LINE, id="endless extension"),
        pytest.param(b"0\r\n" + b"A: b\r\n" * (MAX_TRAILERS + 1), id="endless trailers"),
    ],
)
def test_doubtful_chunk_is_refused(sent: bytes) -> None:
    with pytest.raises(MalformedBody):
        ChunkedBody().take(sent)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), cuts)
def test_what_a_body_holds_is_shown_without_its_frame(
    chunks: list[bytes], sizes: list[int]
) -> None:
    sent = b"".join(b"%x;note=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    shown: list[bytes] = []
    lines: list[bytes] = []

    take_in_pieces(
        ChunkedBody(shown.append, lines.append), sent + b"0\r\nX-After: 2\r\n\r\n", sizes
    )
    take_in_pieces(LengthBody(4, shown.append), b"last and more", sizes)

    assert b"".join(shown) == b"".join(chunks) + b"last"
    assert lines.count(b"\r\n") == len(chunks) + 1
    assert b"X-After: 2\r\n" in lines
