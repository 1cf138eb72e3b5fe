# SPDX-License-Identifier: Apache-2.0
"""Frames of a WebSocket, masked: as long as they were, however they are cut, and refused where they are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.frames import BadFrames, FrameMask
from atoll_server.network.secrets import Secret

VALUE = b"abababab-the-value"
PLACEHOLDER = "atoll-secret-0123456789abcdef0123456789abcdef"
SECRET = Secret("KEY", PLACEHOLDER, ("a.test",), None, VALUE.decode())
MASKED = PLACEHOLDER[: len(VALUE)].encode()
TEXT, CONTINUED, CLOSE, PING = 1, 0, 8, 9

words = st.sampled_from([b"", b"a", b"b", b"ab", b"abababab", b"-the", VALUE, b"xyz", b"z" * 130])
messages = st.lists(st.lists(words, min_size=1, max_size=6), max_size=5)
cuts = st.lists(st.integers(1, 30), max_size=80)


def frame(kind: int, said: bytes, *, is_last: bool = True) -> bytes:
    head = bytes([kind | (0x80 if is_last else 0)])
    if len(said) < 126:
        return head + bytes([len(said)]) + said
    if len(said) < 1 << 16:
        return head + b"\x7e" + len(said).to_bytes(2) + said
    return head + b"\x7f" + len(said).to_bytes(8) + said


def message(parts: list[bytes], between: bytes = b"") -> bytes:
    last = len(parts) - 1
    frames = [
        frame(CONTINUED if at else TEXT, part, is_last=at == last) for at, part in enumerate(parts)
    ]
    return between.join(frames)


def masked(data: bytes, sizes: list[int]) -> bytes:
    mask, told = FrameMask([SECRET]), b""
    for size in [*sizes, len(data) + 1]:
        told += mask.feed(data[:size])
        data = data[size:]
    return told + mask.finish()


def hidden(parts: list[bytes]) -> list[bytes]:
    """The same parts, without the value anywhere in the whole."""
    whole = b"".join(parts).replace(VALUE, MASKED)
    ends = [sum(map(len, parts[: at + 1])) for at in range(len(parts))]
    return [whole[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


@given(messages, cuts)
def test_values_are_taken_out_of_whole_messages(said: list[list[bytes]], sizes: list[int]) -> None:
    ping = frame(PING, b"still there?")
    data = b"".join(message(parts, ping) for parts in said)

    assert masked(data, sizes) == b"".join(message(hidden(parts), ping) for parts in said)


@given(st.binary(max_size=200), cuts)
def test_any_bytes_are_frames_or_not(data: bytes, sizes: list[int]) -> None:
    try:
        told = masked(data, sizes)
    except BadFrames:
        with pytest.raises(BadFrames):
            masked(data, [])
    else:
        assert told == masked(data, [])
        assert len(told) <= len(data)


@given(messages, cuts)
def test_nothing_of_a_message_is_held_back_once_it_has_ended(
    said: list[list[bytes]], sizes: list[int]
) -> None:
    mask = FrameMask([SECRET])
    for parts in said:
        assert len(mask.feed(message(parts))) == len(message(parts))


@pytest.mark.parametrize("kind", [PING, 10, CLOSE])
def test_values_are_taken_out_of_frames_about_the_connection(kind: int) -> None:
    assert masked(frame(kind, b"x" + VALUE), [3]) == frame(kind, b"x" + MASKED)


def test_nothing_follows_a_frame_that_closes() -> None:
    mask = FrameMask([SECRET])
    begun = frame(TEXT, b"abab", is_last=False)
    closing = frame(CLOSE, b"\x03\xe8")

    assert mask.feed(begun + closing + frame(TEXT, b"more")) == begun + closing
    assert mask.has_closed
    assert mask.feed(b"more") == b""


def test_short_frames_that_wait_are_few() -> None:
    """Each costs more than its bytes, and a host may send them while what they hold may become a value."""
    mask = FrameMask([Secret("KEY", PLACEHOLDER, ("a.test",), None, "a" * 30_000)])
    mask.feed(frame(TEXT, b"a", is_last=False))

    with pytest.raises(BadFrames):
        mask.feed(frame(CONTINUED, b"a", is_last=False) * 2000)


def test_long_frames_pass() -> None:
    data = frame(TEXT, VALUE + b"y" * 70_000)

    assert masked(data, [1, 2, 3]) == frame(TEXT, MASKED + b"y" * 70_000)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x81\x81\x00\x00\x00\x00x", id="scrambled"),
        pytest.param(b"\xc1\x01x", id="of an extension"),
        pytest.param(b"\x83\x01x", id="unknown kind"),
        pytest.param(b"\x09\x01x", id="ping in parts"),
        pytest.param(b"\x89\x7e\x00\x7e" + b"x" * 126, id="long ping"),
        pytest.param(b"\x80\x01x", id="goes on that has not begun"),
        pytest.param(b"\x01\x01x\x81\x01x", id="begins within another"),
        pytest.param(b"\x81\x7e\x00\x05hello", id="length in two bytes for nothing"),
        pytest.param(b"\x81\x7f" + (5).to_bytes(8) + b"hello", id="length in eight for nothing"),
        pytest.param(b"\x81\x7f" + b"\xff" * 8, id="endless"),
        pytest.param(
            frame(TEXT, b"ab", is_last=False) + frame(PING, b"x" * 125) * 600, id="too much between"
        ),
    ],
)
def test_what_is_no_frame_of_a_host_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrames):
        FrameMask([SECRET]).feed(data)
