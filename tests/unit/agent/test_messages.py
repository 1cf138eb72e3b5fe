# SPDX-License-Identifier: Apache-2.0
"""Replies become records, or errors of ours and nothing else, whatever the peer sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.agent.errors import AgentError, AgentFailure, AgentProtocolError
from atoll_server.agent.frames import HEADER_BYTES, encode_control
from atoll_server.agent.messages import (
    answers,
    files,
    handshake,
    ports,
    processes,
    starts,
    values,
    watches,
)
from atoll_server.agent.messages.answers import Answer
from tests.unit.agent.peer import ENTRY, EXIT, STARTED

ANSWERS: list[Answer[Any]] = [
    answer
    for noun in (answers, files, handshake, ports, processes, starts, watches)
    for answer in vars(noun).values()
    if isinstance(answer, Answer)
]
REPLIES: list[dict[str, Any]] = [
    {"event": "error", "code": "io", "errno": 5, "message": "input/output error"},
    {"event": "done", "generation": 1, "version": "1", "pid": 1, "features": ["a"]},
    {"event": "done", "entry": ENTRY},
    {"event": "done", "truncated": False},
    {"event": "done", "size": 1, "created": True},
    {"event": "entries", "entries": [ENTRY, {**ENTRY, "name": b"\xff"}]},
    {"event": "file", "entry": ENTRY},
    {"event": "ready"},
    STARTED,
    EXIT,
]


def golden(generation: int) -> list[dict[str, Any]]:
    """The messages that freeze a generation."""
    path = Path(__file__).parents[3] / "protocol" / "agent" / f"gen-{generation}.json"
    frames = json.loads(path.read_bytes())["frames"]
    return [frame["value"] for frame in frames if "value" in frame]


def golden_errors() -> list[dict[str, Any]]:
    return [reply for reply in golden(1) if reply.get("event") == "error"]


def payload(message: dict[str, Any]) -> bytes:
    return encode_control(message)[HEADER_BYTES:]


@given(
    st.sampled_from(ANSWERS),
    st.sampled_from(REPLIES),
    st.integers(0, 300),
    st.binary(max_size=5),
    st.integers(0, 5),
)
def test_damaged_reply_raises_only_our_errors(
    answer: Answer[Any], message: dict[str, Any], at: int, damage: bytes, lost: int
) -> None:
    whole = payload(message)
    damaged = whole[:at] + damage + whole[at + lost :]
    try:
        reply = answer.read(damaged)
        if isinstance(reply, files.StatReply):
            files.read_entry(reply.entry)
        if isinstance(reply, files.EntriesReply):
            [files.read_entry(entry) for entry in reply.entries]
        processes.read_exit(damaged)
    except AgentFailure:
        pass


@pytest.mark.parametrize("error", golden_errors(), ids=lambda error: error["code"])
def test_every_golden_error_is_known(error: dict[str, Any]) -> None:
    with pytest.raises(AgentError) as raised:
        starts.STARTED.read(payload(error))

    assert (raised.value.code, raised.value.errno) == (error["code"], error["errno"])


def test_operation_was_introduced_by_the_first_generation_that_has_it() -> None:
    first: dict[str, int] = {}
    for generation in range(1, handshake.GENERATION + 1):
        for message in golden(generation):
            if "op" in message:
                first.setdefault(message["op"], generation)

    # One operation is told of by a feature instead.
    introduced = dict(handshake.INTRODUCED)
    assert introduced.pop(handshake.ENDS_FEATURE) == handshake.PROCESSES_GENERATION
    assert introduced == first


def test_fields_that_a_later_agent_adds_are_ignored() -> None:
    later = {"event": "started", "new": {"any": [1, None]}, "process": 7, "pid": 42, "more": b""}
    assert starts.STARTED.read(payload(later)).process == 7


@pytest.mark.parametrize(
    "encoded",
    [
        b"\x84\xa5event\xa7started\xa7process\x07\xa3pid\x2a\xa1x\xcb" + bytes(8),
        b"\x84\xa5event\xa7started\xa7process\x07\xa3pid\x2a\xa3pid\x2a",
        b"\x84\xa5event\xa7started\xa7process\x07\xa3pid\x2a\xa1x\xa1\xff",
        b"\x83\xa5event\xa7started\xa7process\x07\xa3pid\xcb" + bytes(8),
    ],
    ids=["unknown float", "repeated key", "unknown str that is no UTF-8", "float for a number"],
)
def test_reply_outside_of_the_subset_is_refused(encoded: bytes) -> None:
    with pytest.raises(AgentProtocolError):
        starts.STARTED.read(encoded)


def test_reply_with_wide_numbers_is_accepted() -> None:
    wide = b"\x83\xa5event\xa7started\xa7process\xcf" + bytes(7) + b"\x07\xa3pid\xcd\x00\x2a"
    assert starts.STARTED.read(wide) == starts.Started(7, 42)


@pytest.mark.parametrize("name", [b"\xa1\xff", b"\x90", b"\x01", b"\xc0", b"\xcb" + bytes(8)])
def test_name_that_is_no_text_is_refused(name: bytes) -> None:
    reply = files.STAT.read(
        payload({"event": "done", "entry": {**ENTRY, "name": msgspec.Raw(name)}})
    )
    with pytest.raises(AgentProtocolError):
        files.read_entry(reply.entry)


def test_message_of_an_error_is_short_and_printable() -> None:
    message = "a\x1b]52;c;evil\x07\n" + "x" * 100_000
    error = {"event": "error", "code": "io", "errno": 0, "message": message}

    with pytest.raises(AgentError) as raised:
        answers.DONE.read(payload(error))

    assert raised.value.message.startswith("a�]52;c;evil��xxx")
    assert len(raised.value.message) == answers.MAX_MESSAGE_CHARACTERS


def test_text_that_stands_for_no_bytes_is_refused() -> None:
    with pytest.raises(AgentError) as raised:
        values.wire_text("\ud800")
    assert raised.value.code == "invalid"
