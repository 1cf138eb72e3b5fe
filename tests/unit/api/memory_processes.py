# SPDX-License-Identifier: Apache-2.0
"""The verbs of `Processes`, over a list. A process has written all that it ever will when it starts; `sleep`, and `cat`
with open input, then run until they are ended.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager

from atoll_server.engine import errors
from atoll_server.engine.ids import process_number
from atoll_server.engine.model import (
    Command,
    Completed,
    Exit,
    Output,
    Process,
    ProcessFilter,
    ProcessId,
    ProcessPage,
    ProcessRecord,
    StartOptions,
    TerminalSize,
    Waited,
)
from atoll_server.engine.notes import Note, choose_page, pack_note, read_process

Play = Callable[[Command, StartOptions], AsyncIterator[tuple[int, bytes] | Exit]]
STARTED_NS = 1_700_000_000_000_000_000


@dataclasses.dataclass
class Kept:
    """One process."""

    record: ProcessRecord
    output: list[Output]
    ended: asyncio.Event
    typed: bytes = b""


class MemoryProcesses:
    """All processes of a sandbox."""

    def __init__(self, play: Play) -> None:
        self.kept: list[Kept] = []
        self._play = play

    async def start(self, command: Command, options: StartOptions) -> Process:
        streams = {1: 0, 2: 0}
        output: list[Output] = []
        exit: Exit | None = None
        async for event in self._play(command, options):
            if isinstance(event, Exit):
                exit = event
                continue
            output.append(Output(event[0], streams[event[0]], event[1]))
            streams[event[0]] += len(event[1])
        record = ProcessRecord(
            number=len(self.kept) + 1,
            pid=len(self.kept) + 100,
            tag=options.tag,
            note=pack_note(Note(command.line, command.cwd or "/workspace", command.user)),
            started_ns=STARTED_NS,
            ended_ns=None,
            code=None,
            signal=None,
            timed_out=False,
            first_position=0,
            position=sum(streams.values()),
            stdout_bytes=streams[1],
            stderr_bytes=streams[2],
            is_stdin_open=options.stdin_open or options.terminal is not None,
            terminal=options.terminal,
        )
        self.kept.append(Kept(record, output, asyncio.Event()))
        if exit is not None:
            self._end(self.kept[-1], exit.code, exit.signal, timed_out=exit.timed_out)
        return read_process(self.kept[-1].record)

    async def get(self, process_id: ProcessId) -> Process:
        return read_process(self._find(process_id).record)

    async def list(self, wanted: ProcessFilter) -> ProcessPage:
        return choose_page([kept.record for kept in self.kept], wanted)

    def stream(
        self, process_id: ProcessId, *, since: int | None = 0, follow: bool = True
    ) -> MemoryFollowing:
        return MemoryFollowing(self._find(process_id), since, follow)

    async def attach(self, process_id: ProcessId, *, since: int | None = None) -> MemorySession:
        kept = self._find(process_id)
        return MemorySession(self, kept, MemoryFollowing(kept, since or 0, True))

    async def wait(self, process_id: ProcessId, timeout: float | None) -> Waited:
        kept = self._find(process_id)
        if not kept.record.has_ended:
            raise errors.StillRunning("it runs")
        streams = {1: b"", 2: b""}
        for piece in kept.output:
            streams[piece.stream] += piece.data
        record = kept.record
        exit = Exit(record.code, record.signal, record.timed_out, False, 0.0125, 0, 0)
        return Waited(read_process(record), Completed(streams[1], streams[2], exit, False))

    async def signal(self, process_id: ProcessId, number: int, *, tree: bool) -> Process:
        kept = self._find(process_id)
        if kept.record.has_ended:
            raise errors.ProcessEnded("it has ended")
        self._end(kept, None, number)
        return read_process(kept.record)

    async def kill(self, process_id: ProcessId) -> Process:
        kept = self._find(process_id)
        if not kept.record.has_ended:
            self._end(kept, None, 9)
        return read_process(kept.record)

    async def write_stdin(
        self, process_id: ProcessId, chunks: AsyncIterable[bytes], *, end: bool
    ) -> int:
        kept = self._find(process_id)
        if not kept.record.is_stdin_open or kept.record.has_ended:
            raise errors.StdinClosed("it takes no input")
        data = b"".join([chunk async for chunk in chunks])
        kept.typed += data
        if end:
            kept.record = dataclasses.replace(kept.record, is_stdin_open=False)
        return len(data)

    async def resize(self, process_id: ProcessId, size: TerminalSize) -> Process:
        kept = self._find(process_id)
        if kept.record.terminal is None:
            raise errors.InvalidRequest("it has no terminal")
        kept.record = dataclasses.replace(kept.record, terminal=size)
        return read_process(kept.record)

    def _find(self, process_id: ProcessId) -> Kept:
        for kept in self.kept:
            if kept.record.number == process_number(process_id):
                return kept
        raise errors.ProcessNotFound("no such process")

    def _end(
        self, kept: Kept, code: int | None, signal: int | None, *, timed_out: bool = False
    ) -> None:
        kept.record = dataclasses.replace(
            kept.record, code=code, signal=signal, timed_out=timed_out, ended_ns=STARTED_NS + 10**9
        )
        kept.ended.set()


class MemoryFollowing:
    """The output of a process from a position on."""

    def __init__(self, kept: Kept, since: int | None, follow: bool) -> None:
        self._kept = kept
        self._follow = follow
        self.position = kept.record.position if since is None else since
        self.stdout, self.stderr, self.dropped = self.position, 0, 0
        if self.position > kept.record.position:
            raise errors.InvalidRequest("past the end")

    async def __aenter__(self) -> MemoryFollowing:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[Output | Process]:
        position = 0
        for piece in self._kept.output:
            skip = max(0, self.position - position)
            position += len(piece.data)
            if skip < len(piece.data):
                yield Output(piece.stream, piece.offset + skip, piece.data[skip:])
        if self._follow:
            await self._kept.ended.wait()
        yield read_process(self._kept.record)


class MemorySession:
    """A process to talk with. What is typed is kept."""

    def __init__(self, processes: MemoryProcesses, kept: Kept, output: MemoryFollowing) -> None:
        self.process = read_process(kept.record)
        self.output = output
        self._processes = processes
        self._kept = kept

    @asynccontextmanager
    async def input(self) -> AsyncIterator[MemoryInput]:
        if not self._kept.record.is_stdin_open:
            raise errors.StdinClosed("it takes no input")
        yield MemoryInput(self._kept)

    async def resize(self, size: TerminalSize) -> None:
        await self._processes.resize(self.process.id, size)

    async def signal(self, number: int) -> None:
        await self._processes.signal(self.process.id, number, tree=True)


class MemoryInput:
    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    async def write(self, data: bytes) -> bool:
        self._kept.typed += data
        return True

    async def end_of_file(self) -> bool:
        self._kept.typed += b"^D"
        return True

    async def finish(self, *, end: bool) -> int:
        return 0
