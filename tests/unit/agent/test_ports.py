# SPDX-License-Identifier: Apache-2.0
"""Ports as an agent reports them, and connections to them, against a peer that keeps and breaks the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atoll_server.agent.errors import AgentError, AgentFailure, AgentProtocolError
from atoll_server.agent.frames import encode_control
from atoll_server.engine.model import ListeningPort
from tests.unit.agent.peer import Talk, peer, say, send

LISTENER = {"port": 3000, "address": "127.0.0.1", "pid": 7, "command": "python3"}
CONNECTED = {"event": "connected", "address": "127.0.0.1"}
END = {"event": "done", "truncated": False}


def listed(*listeners: dict[str, Any]) -> dict[str, Any]:
    return {"event": "ports", "ports": list(listeners)}


async def test_ports_are_read_from_any_number_of_messages(tmp_path: Path) -> None:
    other = {"port": 80, "address": "::", "pid": None, "command": None}

    async with peer(tmp_path, say(listed(LISTENER), listed(other), END)) as agent:
        found = await agent.ports()

    assert found == [
        ListeningPort(3000, "127.0.0.1", 7, b"python3"),
        ListeningPort(80, "::", None, None),
    ]


async def test_waiting_is_asked_for_in_milliseconds(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    async def answer(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say(END)

    async with peer(tmp_path, answer) as agent:
        assert await agent.ports(3000, wait=1.5) == []

    assert heard == [{"op": "ports", "generation": 4, "port": 3000, "wait_ms": 1500}]


@pytest.mark.parametrize(
    "wrong",
    [
        listed({**LISTENER, "port": 0}),
        listed({**LISTENER, "port": 65536}),
        listed({**LISTENER, "address": "evil.example"}),
        listed({**LISTENER, "address": "1" * 65}),
        listed({**LISTENER, "pid": 0}),
        listed({**LISTENER, "command": 7}),
        listed(),
        listed(*[LISTENER] * 4097),
        {"event": "done"},
        CONNECTED,
    ],
)
async def test_malformed_listing_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async with peer(tmp_path, say(wrong, END)) as agent:
        with pytest.raises(AgentProtocolError):
            await agent.ports()


async def test_bytes_pass_after_the_answer_as_they_are(tmp_path: Path) -> None:
    async def echo(talk: Talk) -> None:
        assert await talk.request() == {"op": "dial", "generation": 4, "port": 3000}
        # What follows the answer at once may be read together with it.
        await talk.send(encode_control(CONNECTED) + b"hello ")
        received = await talk.rest()
        await talk.send(received)

    async with peer(tmp_path, echo) as agent:
        stream = await agent.dial(3000)
        assert await stream.receive() == b"hello "
        assert await stream.send(b"\x00\xff raw")
        stream.end_sending()
        assert await stream.receive() == b"\x00\xff raw"
        assert await stream.receive() == b""
        stream.close()


async def test_refusal_bears_its_code(tmp_path: Path) -> None:
    no = {"event": "error", "code": "refused", "errno": 0, "message": "nothing listens"}

    async with peer(tmp_path, say(no)) as agent:
        with pytest.raises(AgentError) as raised:
            await agent.dial(3000)

    assert raised.value.code == "refused"


@pytest.mark.parametrize(
    "answer", [{"event": "connected"}, END, {"event": "connected", "address": 1}]
)
async def test_malformed_answer_to_dial_is_refused(tmp_path: Path, answer: dict[str, Any]) -> None:
    async with peer(tmp_path, say(answer)) as agent:
        with pytest.raises(AgentProtocolError):
            await agent.dial(3000)


async def test_agent_that_leaves_before_its_answer_is_a_failure(tmp_path: Path) -> None:
    async with peer(tmp_path, send(b"")) as agent:
        with pytest.raises(AgentFailure):
            await agent.dial(3000)


async def test_agent_of_generation_3_is_not_asked(tmp_path: Path) -> None:
    words = {"event": "done", "generation": 3, "version": "1", "pid": 1, "features": []}

    async with peer(tmp_path, say(words)) as agent:
        await agent.hello(timeout=5)
        with pytest.raises(AgentError) as dialled:
            await agent.dial(3000)
        with pytest.raises(AgentError) as listed:
            await agent.ports()

    assert dialled.value.code == listed.value.code == "unsupported"
