# SPDX-License-Identifier: Apache-2.0
"""Files of an agent that keeps, bends and breaks the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atoll_server.agent import files as agent_files
from atoll_server.agent.errors import AgentError, AgentProtocolError, AgentUnavailable
from atoll_server.agent.frames import MAX_DATA_BYTES, Frame, Kind, encode_control, encode_frame
from atoll_server.engine.model import FileKind
from tests.unit.agent.peer import ENTRY, Talk, peer, say, send

DONE = {"event": "done"}


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_entry_is_read_whatever_its_names_are(tmp_path: Path) -> None:
    entry = {**ENTRY, "name": b"\xff", "type": "symlink", "target": "ä", "user": b"\x80"}

    async with peer(tmp_path, say({"event": "done", "entry": entry})) as agent:
        got = await agent.stat(b"/w/\xff")

    assert (got.name, got.path, got.kind) == (b"\xff", b"/w/a", FileKind.SYMLINK)
    assert (got.target, got.user, got.group) == ("ä".encode(), b"\x80", None)


@pytest.mark.parametrize(
    "damage",
    [
        {"name": 1},
        {"name": None},
        {"user": 0},
        {"type": "door"},
        {"size": -1},
        {"mode": 0o10000},
        {"uid": 2**32},
        {"modified_ns": "now"},
    ],
    ids=lambda damage: next(iter(damage)),
)
async def test_hostile_entry_is_a_protocol_error(tmp_path: Path, damage: dict[str, object]) -> None:
    async with peer(tmp_path, say({"event": "done", "entry": {**ENTRY, **damage}})) as agent:
        with pytest.raises(AgentProtocolError):
            await agent.stat(b"/")


async def test_listing_comes_in_any_number_of_pieces(tmp_path: Path) -> None:
    pieces = [{"event": "entries", "entries": [ENTRY] * count} for count in (2, 0, 1)]

    async with peer(tmp_path, say(*pieces, {"event": "done", "truncated": True})) as agent:
        listing = await agent.list(b"/", depth=1, limit=3)

    assert len(listing.entries) == 3
    assert listing.truncated


async def test_listing_longer_than_asked_for_is_a_protocol_error(tmp_path: Path) -> None:
    async def endless(talk: Talk) -> None:
        await talk.request()
        with contextlib.suppress(ConnectionError):
            while True:
                await talk.say({"event": "entries", "entries": [ENTRY] * 100})

    async with peer(tmp_path, endless) as agent:
        with pytest.raises(AgentProtocolError):
            await agent.list(b"/", depth=1, limit=1000)


async def test_listing_of_nothing_for_ever_is_a_protocol_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_files, "MAX_LISTING_BYTES", 10_000)

    async def endless(talk: Talk) -> None:
        await talk.request()
        with contextlib.suppress(ConnectionError):
            while True:
                await talk.say({"event": "entries", "entries": []})

    async with peer(tmp_path, endless) as agent:
        with pytest.raises(AgentProtocolError):
            await agent.list(b"/", depth=1, limit=1000)


async def test_file_is_read_to_its_end(tmp_path: Path) -> None:
    async def script(talk: Talk) -> None:
        request = await talk.request()
        assert (request["op"], request["offset"], request["length"]) == ("read", 5, None)
        await talk.say({"event": "file", "entry": ENTRY})
        await talk.data(Kind.CONTENT, 0, b"ab")
        await talk.data(Kind.CONTENT, 2, b"c")
        await talk.data(Kind.CONTENT, 3, b"")
        await talk.say(DONE)

    async with peer(tmp_path, script) as agent, agent.read(b"/a", offset=5) as (entry, content):
        got = [chunk async for chunk in content]

    assert entry.size == 3
    assert got == [b"ab", b"c"]


FILE = encode_control({"event": "file", "entry": ENTRY})


BROKEN_CONTENT: dict[str, tuple[bytes, type[Exception]]] = {
    "it ends early": (b"", AgentUnavailable),
    "no done": (encode_frame(Frame(Kind.CONTENT, 0, b"")), AgentUnavailable),
    "done without an end": (encode_control(DONE), AgentProtocolError),
    "a gap": (encode_frame(Frame(Kind.CONTENT, 1, b"x")), AgentProtocolError),
    "output": (encode_frame(Frame(Kind.STDOUT, 0, b"x")), AgentProtocolError),
    "an error": (
        encode_control({"event": "error", "code": "io", "errno": 5, "message": "x"}),
        AgentError,
    ),
    "an error after the end": (
        encode_frame(Frame(Kind.CONTENT, 0, b""))
        + encode_control({"event": "error", "code": "io", "errno": 5, "message": "x"}),
        AgentError,
    ),
}


@pytest.mark.parametrize(("data", "error"), BROKEN_CONTENT.values(), ids=BROKEN_CONTENT.keys())
async def test_broken_content_never_looks_complete(
    tmp_path: Path, data: bytes, error: type[Exception]
) -> None:
    async with peer(tmp_path, send(FILE + data)) as agent:
        async with agent.read(b"/a") as (_, content):
            with pytest.raises(error):
                [chunk async for chunk in content]


async def test_refused_archive_is_refused_before_it_begins(tmp_path: Path) -> None:
    refusal = {"event": "error", "code": "not_found", "errno": 2, "message": "x"}

    async with peer(tmp_path, say(refusal)) as agent:
        with pytest.raises(AgentError):
            async with agent.pack(b"/a"):
                pytest.fail("nothing was promised")


async def test_upload_arrives_whole(tmp_path: Path) -> None:
    got = b""

    async def script(talk: Talk) -> None:
        nonlocal got
        assert (await talk.request())["size"] == 3 * MAX_DATA_BYTES
        await talk.say({"event": "ready"})
        while (frame := await talk.frame()) is not None and frame.payload:
            assert frame.offset == len(got)
            got += frame.payload
        await talk.say({"event": "done", "size": len(got), "created": True})

    data = os.urandom(3 * MAX_DATA_BYTES)
    async with peer(tmp_path, script) as agent:
        parts = chunks(data[:5], b"", data[5:])
        written = await agent.write(b"/a", parts, size=len(data))

    assert got == data
    assert (written.path, written.size, written.created) == (b"/a", len(data), True)


async def test_upload_whose_source_fails_is_not_ended(tmp_path: Path) -> None:
    last: list[Frame | None] = []

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say({"event": "ready"})
        while (frame := await talk.frame()) is not None:
            last.append(frame)

    async def failing() -> AsyncIterator[bytes]:
        yield b"abc"
        raise RuntimeError("source")

    async with peer(tmp_path, script) as agent:
        with pytest.raises(RuntimeError, match="source"):
            await agent.write(b"/a", failing())

    assert last == [Frame(Kind.CONTENT, 0, b"abc")]


async def test_upload_that_is_cancelled_is_not_ended(tmp_path: Path) -> None:
    last: list[Frame | None] = []
    is_underway = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say({"event": "ready"})
        while (frame := await talk.frame()) is not None:
            last.append(frame)
            is_underway.set()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"abc"
        await asyncio.Event().wait()

    async with peer(tmp_path, script) as agent:
        writing = asyncio.ensure_future(agent.write(b"/a", stuck()))
        await is_underway.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    assert last == [Frame(Kind.CONTENT, 0, b"abc")]


async def test_upload_refused_half_way_says_why(tmp_path: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say({"event": "ready"})
        await talk.frame()
        await talk.say({"event": "error", "code": "no_space", "errno": 28, "message": "full"})

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async with peer(tmp_path, script) as agent:
        with pytest.raises(AgentError) as raised:
            await agent.write(b"/a", endless())

    assert raised.value.code == "no_space"
