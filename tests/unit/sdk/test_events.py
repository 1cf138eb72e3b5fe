# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll._events import FrameDecoder, FrameKind, LineSplitter, Tail, complete_result, parse_end
from atoll.errors import Error, ProtocolError
from atoll.models import ExecResult
from tests.unit.sdk import samples

TEXT = st.text(alphabet=st.sampled_from("ab\né€😀\r\x85\u2028"), max_size=60)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in zip(borders, borders[1:], strict=False)]


def _lines(data: bytes) -> list[str]:
    """What the splitter should give, said otherwise: by one regular pass over the whole."""
    *ended, rest = data.split(b"\n")
    lines = [line.removesuffix(b"\r") for line in ended]
    return [line.decode("utf-8", "replace") for line in [*lines, *([rest] if rest else [])]]


@given(TEXT, st.lists(st.integers(0, 200)))
def test_lines_do_not_depend_on_chunks(text: str, cuts: list[int]) -> None:
    data = text.encode()
    splitter = LineSplitter()

    lines = [line for chunk in _cut(data, cuts) for line in splitter.feed(chunk)]

    assert lines + splitter.finish() == _lines(data)


@given(st.binary(max_size=80), st.lists(st.integers(0, 200)))
def test_lines_of_any_bytes_do_not_depend_on_chunks(data: bytes, cuts: list[int]) -> None:
    splitter = LineSplitter()

    lines = [line for chunk in _cut(data, cuts) for line in splitter.feed(chunk)]

    assert lines + splitter.finish() == _lines(data)


@given(TEXT, st.lists(st.integers(0, 200)), st.integers(4, 12))
def test_long_lines_come_in_pieces_between_characters(
    text: str, cuts: list[int], limit: int
) -> None:
    data = text.encode()
    splitter = LineSplitter(limit)

    pieces = [piece for chunk in _cut(data, cuts) for piece in splitter.feed(chunk)]
    pieces += splitter.finish()

    assert all(len(piece.encode()) <= limit for piece in pieces)
    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) == "".join(_lines(data))


def test_a_line_without_end_takes_no_memory() -> None:
    splitter = LineSplitter()

    pieces = [piece for _ in range(64) for piece in splitter.feed(b"x" * 262144)]

    assert {len(piece) for piece in pieces} == {1 << 20}
    assert len(pieces) == 15
    assert splitter.finish() == ["x" * (1 << 20)]


def test_carriage_returns_inside_a_line_stay() -> None:
    assert LineSplitter().feed(b"1%\r2%\r\n\r\n") == ["1%\r2%", ""]


@given(st.lists(st.tuples(st.sampled_from([2, 3, 5]), st.binary(max_size=40))), st.data())
def test_frames_do_not_depend_on_chunks(
    frames: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    sent = {2: b"", 3: b""}
    stream = b""
    for kind, payload in frames:
        stream += samples.frame(kind, b"" if kind == 5 else payload, len(sent.get(kind, b"")))
        if kind in sent:
            sent[kind] += payload
    stream += samples.exit_frame()
    decoder = FrameDecoder()

    cuts = data.draw(st.lists(st.integers(0, 500)))
    pieces = [piece for chunk in _cut(stream, cuts) for piece in decoder.feed(chunk)]

    for kind, payload in sent.items():
        assert b"".join(piece.data for piece in pieces if piece.kind == kind) == payload
    assert pieces[-1].kind is FrameKind.CONTROL
    assert isinstance(parse_end(pieces[-1].data), ExecResult)
    assert not decoder.gaps


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_a_protocol_error(data: bytes) -> None:
    decoder = FrameDecoder()

    try:
        pieces = decoder.feed(data)
    except ProtocolError:
        return

    assert sum(len(piece.data) for piece in pieces) <= len(data)


@given(st.binary(max_size=100))
def test_any_control_is_an_end_or_a_protocol_error(data: bytes) -> None:
    try:
        end = parse_end(data)
    except ProtocolError:
        return

    assert isinstance(end, ExecResult | Error)


@pytest.mark.parametrize(("kind", "size"), [(0, (1 << 20) + 1), (2, (1 << 18) + 1), (3, 1 << 31)])
def test_frames_beyond_their_limit_are_refused(kind: int, size: int) -> None:
    header = size.to_bytes(4, "big") + bytes([kind]) + bytes(11)

    with pytest.raises(ProtocolError):
        FrameDecoder().feed(header)


def test_output_is_passed_on_before_its_frame_is_whole() -> None:
    decoder = FrameDecoder()

    pieces = decoder.feed(samples.frame(2, b"abcdef")[:-3])

    assert [piece.data for piece in pieces] == [b"abc"]


@given(st.lists(st.binary(max_size=20)), st.integers(1, 30))
def test_a_tail_is_the_end_of_the_stream(parts: list[bytes], limit: int) -> None:
    tail = Tail(limit)
    for part in parts:
        tail.append(part)
    whole = b"".join(parts)

    text = tail.text()

    assert tail.truncated == (len(whole) > limit)
    kept = whole[-limit:]
    options = [kept[skipped:].decode("utf-8", "replace") for skipped in range(4)]
    assert text == options[0] or (tail.truncated and text in options)


def test_a_tail_does_not_begin_within_a_character() -> None:
    tail = Tail(4)
    tail.append("é€".encode())

    assert tail.text() == "€"


def test_the_result_says_when_any_stream_was_cut() -> None:
    result = ExecResult("", "", 0, None, 1)
    short, long = Tail(1), Tail(1)
    long.append(b"ab")

    assert not complete_result(result, short, short, gaps=False).truncated
    assert complete_result(result, short, long, gaps=False).truncated
    assert complete_result(result, short, short, gaps=True).truncated
