# SPDX-License-Identifier: Apache-2.0
"""A peer on a real unix socket that says what a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from atoll_server.agent.client import AgentClient
from atoll_server.agent.frames import (
    Frame,
    FrameDecoder,
    Kind,
    decode_control,
    encode_control,
    encode_frame,
)

STARTED = {"event": "started", "process": 7, "pid": 42}
EXIT = {
    "event": "exit",
    "code": 0,
    "signal": None,
    "timed_out": False,
    "duration_us": 1500,
    "stdout_bytes": 0,
    "stderr_bytes": 0,
}
ENTRY = {
    "name": "a",
    "path": "/w/a",
    "type": "file",
    "size": 3,
    "mode": 0o644,
    "uid": 0,
    "gid": 0,
    "user": "root",
    "group": None,
    "modified_ns": 1,
    "target": None,
}


class Talk:
    """The peer's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []

    async def request(self) -> dict[str, Any]:
        frame = await self.frame()
        assert frame is not None
        assert frame.kind == Kind.CONTROL
        return decode_control(frame.payload)

    async def frame(self) -> Frame | None:
        """The client's next frame; None once it has closed."""
        while not self._frames:
            data = await self._reader.read(1 << 16)
            if not data:
                return None
            self._frames.extend(self._decoder.feed(data))
        return self._frames.pop(0)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def rest(self) -> bytes:
        """All that the client still sends, with no frames in it."""
        return await self._reader.read()

    async def say(self, message: dict[str, Any]) -> None:
        await self.send(encode_control(message))

    async def data(self, kind: Kind, offset: int, payload: bytes) -> None:
        await self.send(encode_frame(Frame(kind, offset, payload)))

    async def wait_closed(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.frame() is not None:
                pass


Script = Callable[[Talk], Awaitable[None]]


@contextlib.asynccontextmanager
async def peer(directory: Path, *scripts: Script) -> AsyncIterator[AgentClient]:
    """An agent that plays one script a connection, in order, and a client of it. All scripts must have been played."""
    waiting = list(scripts)
    playing: list[asyncio.Task[None]] = []
    all_began = asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        playing.append(task)
        try:
            script = waiting.pop(0)
            if not waiting:
                all_began.set()
            await script(Talk(reader, writer))
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    path = directory / "agent.sock"
    server = await asyncio.start_unix_server(play, path)
    try:
        yield AgentClient(str(path))
        async with asyncio.timeout(5):
            await all_began.wait()
            await asyncio.gather(*playing)
    finally:
        server.close()
        await server.wait_closed()


def say(*messages: dict[str, Any]) -> Script:
    """Hears the request, answers with these, and closes."""

    async def script(talk: Talk) -> None:
        await talk.request()
        for message in messages:
            await talk.say(message)

    return script


def send(data: bytes) -> Script:
    """Hears the request, sends these bytes, and closes."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(data)

    return script
