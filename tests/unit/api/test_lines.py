# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.api.lines import Line, LineSplitter

STREAMS = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.sampled_from(
            [b"\n", b"\r\n", "é".encode(), "€".encode(), "😀".encode(), b"\xf0\x9f", b"\x80"]
        ),
    ),
    max_size=20,
)


def split(chunks: list[bytes], limit: int) -> list[Line]:
    splitter = LineSplitter(limit)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return [*lines, *splitter.finish()]


@given(chunks=STREAMS, limit=st.integers(4, 9))
def test_lines_are_the_stream(chunks: list[bytes], limit: int) -> None:
    lines = split(chunks, limit)

    text = "".join(line.text + ("" if line.partial else "\n") for line in lines)

    assert text == b"".join(chunks).decode("utf-8", "replace")


@given(chunks=STREAMS, limit=st.integers(4, 9))
def test_lines_do_not_depend_on_how_the_stream_was_cut(chunks: list[bytes], limit: int) -> None:
    whole = b"".join(chunks)

    assert split(chunks, limit) == split([whole[i : i + 1] for i in range(len(whole))], limit)


@given(chunks=STREAMS, limit=st.integers(4, 9))
def test_offset_is_where_the_line_begins(chunks: list[bytes], limit: int) -> None:
    whole = b"".join(chunks)

    for line in split(chunks, limit):
        rest = whole[line.offset :].decode("utf-8", "replace")
        assert rest.startswith(line.text)


@given(chunks=STREAMS, limit=st.integers(4, 9))
def test_piece_is_never_longer_than_the_limit(chunks: list[bytes], limit: int) -> None:
    assert all(len(line.text) <= limit for line in split(chunks, limit))


def test_character_is_never_cut() -> None:
    assert [line.text for line in split(["€€€".encode()], 4)] == ["€", "€", "€"]


def test_long_line_comes_in_pieces_before_it_ends() -> None:
    splitter = LineSplitter(4)

    assert list(splitter.feed(b"abcdefghi")) == [Line("abcd", True, 0), Line("efgh", True, 4)]
    assert list(splitter.feed(b"\n")) == [Line("i", False, 8)]


def test_line_as_long_as_the_limit_is_whole() -> None:
    assert split([b"abcd", b"\n"], 4) == [Line("abcd", False, 0)]


def test_carriage_return_belongs_to_the_line() -> None:
    assert split([b"a\r\nb"], 8) == [Line("a\r", False, 0), Line("b", True, 3)]


def test_gap_ends_the_piece_before_it() -> None:
    splitter = LineSplitter()

    before = [*splitter.feed(b"ab"), *splitter.skip_to(10)]
    after = [*splitter.feed(b"c\n")]

    assert before == [Line("ab", True, 0)]
    assert after == [Line("c", False, 10)]
