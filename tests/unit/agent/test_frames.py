# SPDX-License-Identifier: Apache-2.0
"""The frame codec: what it accepts, what it refuses, wherever the stream is cut."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_server.agent.errors import AgentError, AgentProtocolError
from atoll_server.agent.frames import (
    HEADER_BYTES,
    MAX_CONTROL_BYTES,
    MAX_DATA_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    Frame,
    FrameDecoder,
    Kind,
    decode_control,
    encode_control,
    encode_frame,
    encode_header,
)

PROTOCOL = Path(__file__).parents[3] / "protocol" / "agent"
GENERATION, *LATER = (
    json.loads((PROTOCOL / f"gen-{number}.json").read_bytes()) for number in (1, 2, 3, 4)
)
GOLDEN = [
    {**golden, "name": f"{golden['name']} ({generation['generation']})"}
    for generation in (GENERATION, *LATER)
    for golden in generation["frames"]
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    | st.binary(max_size=40)
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=8
)
messages = st.dictionaries(names, values, max_size=4)
frames = st.builds(
    Frame, st.sampled_from([int(kind) for kind in Kind][1:]), st.integers(0, 2**64 - 1), st.binary()
)


def cut(data: bytes, borders: list[int]) -> list[bytes]:
    ends = sorted({min(border, len(data)) for border in borders} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def control_payload(message: dict[str, Any]) -> bytes:
    return encode_control(message)[HEADER_BYTES:]


def named(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in items}


def plain(value: Any) -> Any:
    """A golden value as we hold it: `{"$bin": hex}` stands for bytes."""
    if isinstance(value, dict):
        if value.keys() == {"$bin"}:
            return bytes.fromhex(value["$bin"])
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("golden", GOLDEN, ids=named(GOLDEN))
def test_golden_frame_is_decoded_and_encoded_as_it_stands(golden: dict[str, Any]) -> None:
    encoded = bytes.fromhex(golden["frame_hex"])

    (frame,) = FrameDecoder().feed(encoded)

    assert (frame.kind, frame.offset) == (Kind[golden["kind"].upper()], golden["offset"])
    if frame.kind == Kind.CONTROL:
        assert decode_control(frame.payload) == plain(golden["value"])
        assert encode_control(plain(golden["value"])) == encoded
    else:
        assert frame.payload.hex() == golden["payload_hex"]
        assert encode_frame(frame) == encoded


@pytest.mark.parametrize("golden", GENERATION["malformed"], ids=named(GENERATION["malformed"]))
def test_malformed_golden_frame_is_refused(golden: dict[str, Any]) -> None:
    try:
        decoder = FrameDecoder()
        for frame in decoder.feed(bytes.fromhex(golden["hex"])):
            decode_control(frame.payload)
    except AgentProtocolError:
        return
    assert decoder.rest(), "the stream has not even ended early"


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 2000), max_size=12))
def test_frames_come_out_as_they_went_in_wherever_the_stream_is_cut(
    sent: list[Frame], borders: list[int]
) -> None:
    stream = b"".join(map(encode_frame, sent))
    decoder = FrameDecoder()

    received = [frame for chunk in cut(stream, borders) for frame in decoder.feed(chunk)]

    assert received == sent


@pytest.mark.parametrize("length", [0, 1, 16, 8175, 8176, 8177, MAX_DATA_BYTES])
def test_frame_of_any_allowed_length_passes(length: int) -> None:
    frame = Frame(Kind.STDOUT, 5, b"x" * length)
    decoder = FrameDecoder()

    assert list(decoder.feed(encode_frame(frame) * 3)) == [frame] * 3


def test_control_frame_of_the_greatest_length_passes() -> None:
    message = {"text": b"x" * (MAX_CONTROL_BYTES - 11)}
    frame = encode_control(message)

    (received,) = FrameDecoder().feed(frame)

    assert len(frame) == HEADER_BYTES + MAX_CONTROL_BYTES
    assert decode_control(received.payload) == message


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_hostile_stream_raises_only_a_protocol_error(data: bytes, borders: list[int]) -> None:
    decoder = FrameDecoder()
    try:
        for chunk in cut(data, borders):
            for frame in decoder.feed(chunk):
                decode_control(frame.payload)
    except AgentProtocolError:
        pass


@pytest.mark.parametrize(
    "header",
    [
        struct.pack(">IB3sQ", 0, 5, bytes(3), 0),
        struct.pack(">IB3sQ", 0, 255, bytes(3), 0),
        struct.pack(">IB3sQ", 0, 2, b"\0\0\1", 0),
        struct.pack(">IB3sQ", MAX_DATA_BYTES + 1, 2, bytes(3), 0),
        struct.pack(">IB3sQ", MAX_CONTROL_BYTES + 1, 0, bytes(3), 0),
        struct.pack(">IB3sQ", 2**32 - 1, 4, bytes(3), 0),
        struct.pack(">IB3sQ", 0, 0, bytes(3), 1),
    ],
    ids=["kind", "last kind", "reserved", "data limit", "control limit", "huge", "control offset"],
)
def test_header_that_breaks_a_rule_is_refused_before_its_payload_arrives(header: bytes) -> None:
    with pytest.raises(AgentProtocolError):
        list(FrameDecoder().feed(header))


def test_frames_before_a_bad_one_are_given_first() -> None:
    good = Frame(Kind.STDOUT, 0, b"x")
    given_frames = FrameDecoder().feed(encode_frame(good) + b"\xff" * 16)

    assert next(given_frames) == good
    with pytest.raises(AgentProtocolError):
        next(given_frames)


def test_header_and_payload_sent_apart_make_the_same_frame() -> None:
    frame = Frame(Kind.CONTENT, 2**40, b"abc")
    assert encode_header(Kind.CONTENT, 2**40, 3) + b"abc" == encode_frame(frame)


@settings(max_examples=40)
@given(messages)
def test_message_comes_back_as_it_was(message: dict[str, Any]) -> None:
    assert decode_control(control_payload(message)) == message


@given(st.binary(max_size=300))
def test_hostile_payload_raises_only_a_protocol_error(payload: bytes) -> None:
    try:
        decode_control(payload)
    except AgentProtocolError:
        pass


@settings(max_examples=40)
@given(messages, st.integers(0, 500), st.binary(min_size=1, max_size=4))
def test_damaged_payload_is_refused_or_is_a_message(
    message: dict[str, Any], at: int, damage: bytes
) -> None:
    payload = bytearray(control_payload(message))
    payload[at : at + len(damage)] = damage
    try:
        decoded = decode_control(bytes(payload))
    except AgentProtocolError:
        return
    assert decode_control(control_payload(decoded)) == decoded


REFUSED = {
    "no map": b"\x91\x01",
    "empty": b"",
    "cut": b"\x81\xa1a",
    "more than one": b"\x80\x80",
    "float": b"\x81\xa1a\xcb" + bytes(8),
    "short float": b"\x81\xa1a\xca" + bytes(4),
    "timestamp": b"\x81\xa1a\xd6\xff" + bytes(4),
    "extension": b"\x81\xa1a\xc7\x01\x05x",
    "never used": b"\x81\xa1a\xc1",
    "number as key": b"\x81\x01\x01",
    "bin as key": b"\x81\xc4\x01a\x01",
    "inner number as key": b"\x81\xa1a\x81\x01\x01",
    "inner bin as key": b"\x81\xa1a\x81\xc4\x01a\x01",
    "inner map as key": b"\x81\xa1a\x81\x80\x01",
    "repeated key": b"\x82\xa1a\x01\xa1a\x01",
    "inner repeated key": b"\x81\xa1a\x82\xa1b\x01\xa1b\x02",
    "key repeated in another width": b"\x82\xa1a\x01\xd9\x01a\x01",
    "str that is not UTF-8": b"\x81\xa1a\xa1\xff",
    "key that is not UTF-8": b"\x81\xa1\xff\x01",
    "surrogate": b"\x81\xa1a\xa3\xed\xa0\x80",
    "array longer than the rest": b"\x81\xa1a\xdd\xff\xff\xff\xff",
    "map longer than the rest": b"\xdf\xff\xff\xff\xff",
    "nested 17 deep": b"\x81\xa1a" + b"\x91" * MAX_DEPTH + b"\x01",
    "nested 17 deep by an empty array": b"\x81\xa1a" + b"\x91" * (MAX_DEPTH - 1) + b"\x90",
    "nested far too deep": b"\x81\xa1a" + b"\x91" * 500_000 + b"\x01",
    "too many values": b"\x81\xa1a\xdd" + struct.pack(">I", MAX_VALUES) + b"\x01" * MAX_VALUES,
}


@pytest.mark.parametrize("payload", REFUSED.values(), ids=REFUSED.keys())
def test_payload_outside_of_the_subset_is_refused(payload: bytes) -> None:
    with pytest.raises(AgentProtocolError):
        decode_control(payload)


def test_message_nested_16_deep_is_accepted() -> None:
    payload = b"\x81\xa1a" + b"\x91" * (MAX_DEPTH - 1) + b"\x01"
    assert msgspec.msgpack.decode(payload) == decode_control(payload)


def encode_wide(value: Any) -> bytes:
    """Every number and length in the widest form that there is."""
    if isinstance(value, dict):
        pairs = (encode_wide(key) + encode_wide(item) for key, item in value.items())
        return b"\xdf" + struct.pack(">I", len(value)) + b"".join(pairs)
    if isinstance(value, list):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(encode_wide, value))
    if isinstance(value, str):
        return b"\xdb" + struct.pack(">I", len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    assert isinstance(value, int)
    return b"\xcf" + struct.pack(">Q", value) if value >= 0 else b"\xd3" + struct.pack(">q", value)


@settings(max_examples=40)
@given(messages)
def test_numbers_and_lengths_wider_than_needed_are_accepted(message: dict[str, Any]) -> None:
    assert decode_control(encode_wide(message)) == message


@settings(max_examples=40)
@given(messages, names, values)
def test_repeated_key_is_refused_wherever_and_however_wide_it_is(
    message: dict[str, Any], name: str, value: Any
) -> None:
    pair = encode_wide(name) + encode_wide(value)
    repeated = b"\x83" + pair + encode_wide("between") + encode_wide(message) + pair

    for payload in (repeated, b"\x81\xa1a" + repeated):
        with pytest.raises(AgentProtocolError):
            decode_control(payload)


def test_each_width_of_a_number_or_length_is_accepted() -> None:
    wide = {
        b"\xcc\x01": 1,
        b"\xcd\x00\x01": 1,
        b"\xce\x00\x00\x00\x01": 1,
        b"\xcf" + bytes(7) + b"\x01": 1,
        b"\xd0\xff": -1,
        b"\xd3" + b"\xff" * 8: -1,
        b"\xd9\x01x": "x",
        b"\xdb\x00\x00\x00\x01x": "x",
        b"\xc6\x00\x00\x00\x01x": b"x",
        b"\xdc\x00\x01\x01": [1],
        b"\xde\x00\x01\xda\x00\x01k\x01": {"k": 1},
    }
    for encoded, value in wide.items():
        payload = b"\xdf\x00\x00\x00\x02\xa1a" + encoded + b"\xa1b\x01"
        assert decode_control(payload) == {"a": value, "b": 1}


def test_request_too_large_for_a_frame_is_refused_with_the_agents_own_code() -> None:
    with pytest.raises(AgentError) as refused:
        encode_control({"argv": ["x" * MAX_CONTROL_BYTES]})
    assert refused.value.code == "limit"


@pytest.mark.parametrize("value", ["\udc80", 2**64, -(2**63) - 1])
def test_request_that_cannot_be_encoded_is_refused(value: object) -> None:
    with pytest.raises(AgentError) as refused:
        encode_control({"a": value})
    assert refused.value.code == "invalid"
