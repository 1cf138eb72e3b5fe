# SPDX-License-Identifier: Apache-2.0
"""The frame codec exists in Python and in Rust: both take the same streams, and make the same bytes of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_server.agent.errors import AgentProtocolError
from atoll_server.agent.frames import (
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
)

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "agent"
GENERATION = json.loads((ROOT / "protocol" / "agent" / "gen-1.json").read_bytes())

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts | st.binary()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30
)
controls = st.dictionaries(texts, values, max_size=20).map(encode_control)
data = st.builds(Frame, st.integers(1, 4), st.integers(0, 2**64 - 1), st.binary(max_size=300)).map(
    encode_frame
)
streams = st.lists(controls | data, max_size=5).map(b"".join)


@pytest.fixture(scope="module")
def rust() -> Path:
    """The Rust codec as a program: the example `frames` of the agent."""
    if not shutil.which("cargo"):
        pytest.skip("needs cargo")
    build = ["cargo", "build", "--quiet", "--offline", "--example", "frames"]
    subprocess.run(build, cwd=AGENT, check=True)
    built = AGENT.glob("target/**/debug/examples/frames")
    return max(built, key=lambda path: path.stat().st_mtime)


def recode_in_rust(rust: Path, stream: bytes) -> bytes | None:
    done = subprocess.run([rust], input=stream, capture_output=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout if done.returncode == 0 else None


def recode_in_python(stream: bytes) -> bytes | None:
    decoder = FrameDecoder()
    try:
        recoded = [
            encode_frame(frame) if frame.kind else encode_control(decode_control(frame.payload))
            for frame in decoder.feed(stream)
        ]
    except AgentProtocolError:
        return None
    return None if decoder.rest() else b"".join(recoded)


@given(stream=streams)
def test_both_give_back_what_is_well_formed(rust: Path, stream: bytes) -> None:
    assert recode_in_python(stream) == stream
    assert recode_in_rust(rust, stream) == stream


@settings(max_examples=150)
@given(stream=streams, at=st.integers(0, 400), damage=st.binary(min_size=1, max_size=6))
def test_both_judge_a_damaged_stream_alike(
    rust: Path, stream: bytes, at: int, damage: bytes
) -> None:
    at = min(at, len(stream))
    damaged = stream[:at] + damage + stream[at + len(damage) :]

    assert recode_in_python(damaged) == recode_in_rust(rust, damaged)


@settings(max_examples=150)
@given(payload=st.binary(max_size=60))
def test_both_judge_any_payload_alike(rust: Path, payload: bytes) -> None:
    stream = encode_frame(Frame(Kind.CONTROL, 0, b"\x81\xa1a" + payload))

    assert recode_in_python(stream) == recode_in_rust(rust, stream)


@pytest.mark.parametrize("golden", GENERATION["malformed"], ids=lambda golden: golden["name"])
def test_both_refuse_the_malformed_golden_frames(rust: Path, golden: dict[str, Any]) -> None:
    stream = bytes.fromhex(golden["hex"])

    assert recode_in_python(stream) is None
    assert recode_in_rust(rust, stream) is None


def control(payload: bytes) -> bytes:
    return encode_frame(Frame(Kind.CONTROL, 0, payload))


def ones(count: int) -> bytes:
    return b"\x81\xa1a\xdd" + count.to_bytes(4, "big") + b"\x01" * count


AT_THE_LIMIT = {
    "depth": (
        control(b"\x81\xa1a" + b"\x91" * (MAX_DEPTH - 2) + b"\x90"),
        control(b"\x81\xa1a" + b"\x91" * (MAX_DEPTH - 1) + b"\x90"),
    ),
    # The map, its key and the array are values too.
    "values": (control(ones(MAX_VALUES - 3)), control(ones(MAX_VALUES - 2))),
    "control": (
        control(
            b"\x81\xa1a\xc6"
            + (MAX_CONTROL_BYTES - 8).to_bytes(4, "big")
            + bytes(MAX_CONTROL_BYTES - 8)
        ),
        control(
            b"\x81\xa1a\xc6"
            + (MAX_CONTROL_BYTES - 7).to_bytes(4, "big")
            + bytes(MAX_CONTROL_BYTES - 7)
        ),
    ),
    "data": (
        encode_frame(Frame(Kind.STDOUT, 0, bytes(MAX_DATA_BYTES))),
        encode_frame(Frame(Kind.STDOUT, 0, bytes(MAX_DATA_BYTES + 1))),
    ),
}


@pytest.mark.parametrize("limit", AT_THE_LIMIT)
def test_both_have_the_same_limits(rust: Path, limit: str) -> None:
    allowed, refused = AT_THE_LIMIT[limit]

    assert recode_in_rust(rust, allowed) == recode_in_python(allowed) is not None
    assert recode_in_rust(rust, refused) is recode_in_python(refused) is None
