# SPDX-License-Identifier: Apache-2.0
"""An agent on a real unix socket that keeps the journal of one process as the protocol says, and counts its readers."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_server.agent.client import AgentClient
from atoll_server.agent.frames import Kind
from atoll_server.engine.model import Output
from tests.unit.agent.peer import EXIT, Talk

NUMBER = 7
ALL = 1 << 40
_KINDS = {1: Kind.STDOUT, 2: Kind.STDERR}


@dataclass(eq=False)
class Reader:
    """One connection, and how far it has been served."""

    position: int


class Journal:
    """What a process has written. All but the newest `kept` bytes are dropped once every reader has taken them.

    With `answers` cleared, who comes waits for its answer.
    """

    def __init__(self, kept: int = ALL) -> None:
        self.end = 0
        self.first = 0
        self.readers: list[Reader] = []
        self.opened = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self._kept = kept
        self._events: list[Output] = []
        self._starts: list[int] = []
        self._offsets = {1: 0, 2: 0}
        self._last: dict[str, Any] | None = None
        self._is_over = False
        self._news = asyncio.Event()

    def write(self, data: bytes, stream: int = 1) -> None:
        self._events.append(Output(stream, self._offsets[stream], data))
        self._starts.append(self.end)
        self._offsets[stream] += len(data)
        self.end += len(data)
        self._drop()
        self._tell()

    def exit(self) -> None:
        """The process ends."""
        self._last, self._is_over = EXIT, True
        self._tell()

    def fail(self, code: str) -> None:
        """Every reader is sent away with an error, behind what there is."""
        self._last = {"event": "error", "code": code, "errno": 0, "message": "why"}
        self._is_over = True
        self._tell()

    def recover(self) -> None:
        """Readers who come from now on are served again."""
        self._last, self._is_over = None, False

    def since(self, position: int) -> list[Output]:
        """What a reader has to get from a position on, event by event."""
        found = []
        for start, event in zip(self._starts, self._events, strict=True):
            cut = max(0, position - start)
            if cut < len(event.data):
                found.append(Output(event.stream, event.offset + cut, event.data[cut:]))
        return found

    def offsets_at(self, position: int) -> tuple[int, int]:
        """Those of both streams at a position."""
        rest = {1: 0, 2: 0}
        for event in self.since(position):
            rest[event.stream] += len(event.data)
        return self._offsets[1] - rest[1], self._offsets[2] - rest[2]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Talk(reader, writer)
        request = await talk.request()
        assert (request["op"], request["process"]) == ("attach", NUMBER)
        since = self.end if request["since"] is None else request["since"]
        served = Reader(max(since, self.first))
        self.opened += 1
        self.readers.append(served)
        sending = asyncio.ensure_future(self._send(talk, served, served.position - since))
        leaving = asyncio.ensure_future(talk.wait_closed())
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.readers.remove(served)
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            writer.close()

    async def _send(self, talk: Talk, served: Reader, dropped: int) -> None:
        stdout, stderr = self.offsets_at(served.position)
        await self.answers.wait()
        attached = {"event": "attached", "process": NUMBER, "pid": 42, "dropped": dropped}
        await talk.say(
            {**attached, "position": served.position, "stdout": stdout, "stderr": stderr}
        )
        while True:
            while served.position < self.end:
                event = self._event_at(served.position)
                await talk.data(_KINDS[event.stream], event.offset, event.data)
                served.position += len(event.data)
                self._drop()
            if self._is_over:
                assert self._last is not None
                return await talk.say(self._last)
            await self._news.wait()

    def _event_at(self, position: int) -> Output:
        index = bisect_right(self._starts, position) - 1
        event, cut = self._events[index], position - self._starts[index]
        return Output(event.stream, event.offset + cut, event.data[cut:])

    def _drop(self) -> None:
        taken = min((reader.position for reader in self.readers), default=self.end)
        self.first = max(self.first, min(taken, self.end - self._kept))

    def _tell(self) -> None:
        self._news.set()
        self._news.clear()


@contextlib.asynccontextmanager
async def serving(directory: Path, journal: Journal) -> AsyncIterator[AgentClient]:
    """A client of an agent with this journal. What its readers still do at the end is waited for."""
    playing: list[asyncio.Task[None]] = []

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        playing.append(task)
        # Who leaves is not waited for.
        with contextlib.suppress(ConnectionError):
            await journal.serve(reader, writer)

    path = directory / "agent.sock"
    server = await asyncio.start_unix_server(play, path)
    try:
        yield AgentClient(str(path))
        async with asyncio.timeout(5):
            await asyncio.gather(*playing)
    finally:
        server.close()
        await server.wait_closed()
