# SPDX-License-Identifier: Apache-2.0
"""What the server can ask of a sandbox's agent: one method per operation, one connection per call.

Cancelling a call closes its connection, which makes the agent drop a file operation. Nothing is read ahead of the
consumer but one buffer, so that a slow consumer slows the process or the file in the sandbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self, TypeVar

from atoll_server.agent.connection import Connection
from atoll_server.agent.ends import ENDS_FEATURE, ProcessEnds
from atoll_server.agent.errors import AgentError, AgentProtocolError
from atoll_server.agent.frames import Kind
from atoll_server.agent.messages import (
    DONE,
    FILE,
    GENERATION,
    HELLO,
    LISTING,
    PORTS_GENERATION,
    PROCESSES,
    PROCESSES_GENERATION,
    READY,
    SIGNALLED,
    STAT,
    TAKEN,
    UNPACKED,
    WATCHES_GENERATION,
    WRITTEN,
    Answer,
    Done,
    Fields,
    Hello,
    ListedReply,
    StartRequest,
    read_entry,
    read_process,
    wire_text,
)
from atoll_server.agent.ports import CONNECTED, PortStream, read_listeners
from atoll_server.agent.process import (
    STARTS_AT_ONCE,
    AgentProcess,
    AttachedProcess,
    control,
    pieces,
    reply,
)
from atoll_server.agent.watch import WATCHED, WATCHES, WatchChanges, read_watch
from atoll_server.engine.model import (
    Entry,
    ListeningPort,
    Listing,
    ProcessRecord,
    TerminalSize,
    WatchRecord,
    Written,
)

REPLY_TIMEOUT: Final = 30.0
TREE_TIMEOUT: Final = 600.0
MAX_LISTING_BYTES: Final = 64 << 20
MAX_PROCESSES: Final = 100_000
MAX_WATCHES: Final = 64

T = TypeVar("T")


class AgentClient:
    """Holds no connection: any number of operations may run at once, and `STARTS_AT_ONCE` starts of processes."""

    def __init__(self, socket_path: str) -> None:
        self.path = socket_path
        self.generation = GENERATION
        self.tells_ends = False
        self.starting = asyncio.Semaphore(STARTS_AT_ONCE)

    async def hello(self, timeout: float) -> Hello:
        """Meets the agent, waiting until it listens, and speaks as it does from then on."""
        with await Connection.open(self.path, wait=timeout) as connection:
            await connection.send_control({"op": "hello", "generation": GENERATION})
            hello = await reply(connection, HELLO, timeout)
        self.generation = min(GENERATION, hello.generation)
        self.tells_ends = ENDS_FEATURE in hello.features
        return hello

    async def reach(self) -> None:
        """Connects and no more, which the kernel answers for an agent that listens, also while that is busy."""
        (await Connection.open(self.path)).close()

    def start(self, request: StartRequest, *, kill_on_leave: bool = True) -> AgentProcess:
        """A process, running inside `async with`. Left before its exit, its whole tree is killed."""
        return AgentProcess(self, request, kill_on_leave)

    def attach(
        self, process: int, *, since: int | None = None, follow: bool = True
    ) -> AttachedProcess:
        """What a process writes from position `since` on, inside `async with`; None is from now on."""
        fields = {"process": process, "since": since, "follow": follow}
        return AttachedProcess(self, self._newer("attach", fields))

    async def processes(self, process: int | None = None) -> list[ProcessRecord]:
        """Those that run and those that have ended and are kept, oldest first; or the one that is named."""
        wanted = {} if process is None else {"process": process}
        found: list[ProcessRecord] = []
        budget = MAX_LISTING_BYTES
        with await self._begin("processes", self._newer("processes", wanted)) as connection:
            while True:
                payload = await control(connection, REPLY_TIMEOUT)
                answered = PROCESSES.read(payload)
                if isinstance(answered, Done):
                    return found
                found.extend(map(read_process, answered.processes))
                budget -= len(payload)
                if len(found) > MAX_PROCESSES or budget < 0:
                    raise AgentProtocolError("agent lists more processes than there can be")

    def ends(self) -> ProcessEnds:
        """Every process that ends from now on, inside `async with`. For an agent that `tells_ends`."""
        return ProcessEnds(self, self._newer("ends", {}))

    @asynccontextmanager
    async def stdin(self, process: int) -> AsyncIterator[ProcessInput]:
        """A way into a process's input, for as long as the block lasts."""
        fields = self._newer("stdin", {"process": process})
        with await self._begin("stdin", fields) as connection:
            await reply(connection, READY, REPLY_TIMEOUT)
            yield ProcessInput(connection)

    async def resize(self, process: int, size: TerminalSize) -> None:
        fields = {"process": process, "rows": size.rows, "cols": size.cols}
        await self._ask("resize", self._newer("resize", fields), DONE)

    async def forget(self, process: int) -> None:
        """Drops the record and the output of a process that has ended."""
        await self._ask("forget", self._newer("forget", {"process": process}), DONE)

    async def configure(self, *, keep_ended: int, keep_ended_ms: int) -> None:
        fields = {"keep_ended": keep_ended, "keep_ended_ms": keep_ended_ms}
        await self._ask("configure", self._newer("configure", fields), DONE)

    async def signal(self, process: int, signal: int, *, tree: bool) -> int:
        """Signals a process started earlier, or its whole tree. Answers how many were reached."""
        fields = {"process": process, "signal": signal, "tree": tree}
        return (await self._ask("signal", fields, SIGNALLED)).signalled

    async def kill_largest(self) -> bool:
        """Kills the process that holds most memory. False if there is none."""
        return (await self._ask("kill_largest", {}, SIGNALLED)).signalled > 0

    async def watch(
        self,
        path: bytes,
        *,
        recursive: bool = False,
        keep: int | None = None,
        linger_ms: int | None = None,
    ) -> WatchRecord:
        """Watches a directory from now on, until `unwatch` or until nobody has read its changes for `linger_ms`."""
        fields = {
            "path": wire_text(path),
            "recursive": recursive,
            "keep": keep,
            "linger_ms": linger_ms,
        }
        request = self._newer("watch", fields, WATCHES_GENERATION)
        number = (await self._ask("watch", request, WATCHED, TREE_TIMEOUT)).watch
        found = await self.watches(number)
        if len(found) != 1:
            raise AgentProtocolError("agent does not know the watch that it has just made")
        return found[0]

    async def watches(self, watch: int | None = None) -> list[WatchRecord]:
        """Those that are active and those that have ended and are kept, oldest first; or the one that is named."""
        wanted = {} if watch is None else {"watch": watch}
        fields = self._newer("watches", wanted, WATCHES_GENERATION)
        found: list[WatchRecord] = []
        with await self._begin("watches", fields) as connection:
            while True:
                answered = WATCHES.read(await control(connection, REPLY_TIMEOUT))
                if isinstance(answered, Done):
                    return found
                found.extend(map(read_watch, answered.watches))
                if not answered.watches or len(found) > MAX_WATCHES:
                    raise AgentProtocolError("agent lists more watches than there can be")

    def changes(self, watch: int, *, since: int = 0, follow: bool = True) -> WatchChanges:
        """The changes after number `since`, inside `async with`; 0 is from the oldest that is kept."""
        fields = {"watch": watch, "since": since, "follow": follow}
        return WatchChanges(self, self._newer("changes", fields, WATCHES_GENERATION), since)

    async def unwatch(self, watch: int) -> None:
        """Forgets a watch, and ends whoever reads its changes."""
        fields = {"watch": watch}
        await self._ask("unwatch", self._newer("unwatch", fields, WATCHES_GENERATION), DONE)

    async def dial(self, port: int, early: bytes = b"") -> PortStream:
        """A connection to a port inside, and `early` on its way already. Who gets it closes it."""
        connection = await self._begin("dial", self._newer("dial", {"port": port}, PORTS_GENERATION))
        try:
            if early:
                # Refused, it is not read: the answer says so.
                await connection.send_bare(early)
            await reply(connection, CONNECTED, REPLY_TIMEOUT)
        except BaseException:
            connection.close()
            raise
        return PortStream(connection)

    async def ports(self, port: int | None = None, *, wait: float = 0.0) -> list[ListeningPort]:
        """What listens, or what does on one port; if that is nothing, it waits up to a minute."""
        wanted = {"port": port, "wait_ms": round(wait * 1000)}
        with await self._begin("ports", self._newer("ports", wanted, PORTS_GENERATION)) as peer:
            return await read_listeners(peer, wait + REPLY_TIMEOUT)

    async def stat(self, path: bytes, *, follow: bool = True) -> Entry:
        fields = {"path": wire_text(path), "follow": follow}
        answered = await self._ask("stat", fields, STAT)
        return read_entry(answered.entry)

    async def list(self, path: bytes, *, depth: int, limit: int) -> Listing:
        entries: list[Entry] = []
        budget = MAX_LISTING_BYTES
        fields = {"path": wire_text(path), "depth": depth, "limit": limit}
        with await self._begin("list", fields) as connection:
            while True:
                payload = await control(connection, TREE_TIMEOUT)
                answered = LISTING.read(payload)
                if isinstance(answered, ListedReply):
                    return Listing(tuple(entries), answered.truncated)
                entries.extend(map(read_entry, answered.entries))
                budget -= len(payload)
                if len(entries) > limit or budget < 0:
                    raise AgentProtocolError("agent lists more than it was asked for")

    @asynccontextmanager
    async def read(
        self, path: bytes, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[tuple[Entry, Content]]:
        fields = {"path": wire_text(path), "offset": offset, "length": length}
        with await self._begin("read", fields) as connection:
            answered = await reply(connection, FILE, REPLY_TIMEOUT)
            yield read_entry(answered.entry), Content(connection)

    async def write(
        self,
        path: bytes,
        chunks: AsyncIterable[bytes],
        *,
        mode: int | None = None,
        append: bool = False,
        size: int | None = None,
    ) -> Written:
        """Writes a file, parents included. Whatever stops the chunks early leaves no part of it behind."""
        fields = {
            "path": wire_text(path),
            "mode": mode,
            "user": None,
            "append": append,
            "parents": True,
            "size": size,
        }
        with await self._begin("write", fields) as connection:
            await reply(connection, READY, REPLY_TIMEOUT)
            await _send_content(connection, chunks)
            answered = await reply(connection, WRITTEN, TREE_TIMEOUT)
        return Written(path, answered.size, answered.created)

    async def mkdir(self, path: bytes, *, parents: bool, mode: int | None = None) -> None:
        fields = {"path": wire_text(path), "parents": parents, "mode": mode, "user": None}
        await self._ask("mkdir", fields, DONE)

    async def move(self, source: bytes, destination: bytes) -> None:
        fields = {"source": wire_text(source), "destination": wire_text(destination)}
        await self._ask("move", fields, DONE, TREE_TIMEOUT)

    async def copy(self, source: bytes, destination: bytes) -> None:
        fields = {"source": wire_text(source), "destination": wire_text(destination)}
        await self._ask("copy", fields, DONE, TREE_TIMEOUT)

    async def remove(self, path: bytes, *, recursive: bool) -> None:
        fields = {"path": wire_text(path), "recursive": recursive}
        await self._ask("remove", fields, DONE, TREE_TIMEOUT)

    async def chmod(self, path: bytes, mode: int, *, recursive: bool) -> None:
        fields = {"path": wire_text(path), "mode": mode, "recursive": recursive}
        await self._ask("chmod", fields, DONE, TREE_TIMEOUT)

    async def chown(self, path: bytes, user: str, group: str | None, *, recursive: bool) -> None:
        fields = {
            "path": wire_text(path),
            "user": wire_text(user),
            "group": None if group is None else wire_text(group),
            "recursive": recursive,
        }
        await self._ask("chown", fields, DONE, TREE_TIMEOUT)

    @asynccontextmanager
    async def pack(self, path: bytes) -> AsyncIterator[Content]:
        """A tar of a directory's content."""
        with await self._begin("pack", {"path": wire_text(path)}) as connection:
            # The first frame is read before anybody is promised an archive: it may be the agent's no.
            content = Content(connection)
            await content.prepare()
            yield content

    async def unpack(self, path: bytes, chunks: AsyncIterable[bytes]) -> int:
        """Places a tar's members beneath a directory. Answers how many there were."""
        fields = {"path": wire_text(path), "user": None}
        with await self._begin("unpack", fields) as connection:
            await reply(connection, READY, REPLY_TIMEOUT)
            await _send_content(connection, chunks)
            return (await reply(connection, UNPACKED, TREE_TIMEOUT)).entries

    def _newer(self, op: str, fields: Fields, since: int = PROCESSES_GENERATION) -> Fields:
        """The fields of an operation that agents before generation `since` do not know, for one that does."""
        if self.generation < since:
            message = "the sandbox is older than this operation; create a new one"
            raise AgentError("unsupported", 0, message)
        return {"op": op, "generation": self.generation, **fields}

    async def _begin(self, op: str, fields: Fields) -> Connection:
        connection = await Connection.open(self.path)
        try:
            await connection.send_control({"op": op, "generation": self.generation, **fields})
        except BaseException:
            connection.close()
            raise
        return connection

    async def _ask(
        self,
        op: str,
        fields: Fields,
        answer: Answer[T],
        timeout: float = REPLY_TIMEOUT,
    ) -> T:
        with await self._begin(op, fields) as connection:
            return await reply(connection, answer, timeout)


class ProcessInput:
    """Bytes on their way to a process, at its own pace. Made by `AgentClient.stdin`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._offset = 0

    async def write(self, data: bytes) -> bool:
        """False once nobody takes it: `finish` says why."""
        for piece in pieces(data):
            # A process may leave its input alone for as long as it likes.
            if not await self._send(piece):
                return False
            self._offset += len(piece)
        return True

    async def finish(self, *, end: bool) -> int:
        """Waits until all of it has been taken and answers how much that was. `end`: there will never be more."""
        if end:
            await self._send(b"")
        self._connection.end_sending()
        return TAKEN.read(await control(self._connection, None)).bytes

    async def end_of_file(self) -> bool:
        """The end of the process's input; at a terminal what ^D is. False as of `write`."""
        return await self._send(b"")

    async def _send(self, piece: memoryview | bytes) -> bool:
        return await self._connection.send_data(Kind.STDIN, self._offset, piece, timeout=None)


class Content:
    """The bytes of a file or an archive, in order. It has ended only when the agent says that all went well."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._offset = 0
        self._first: bytes | None = None
        self._has_ended = False

    async def prepare(self) -> None:
        """Waits for the first bytes, so that a refusal comes before anything was promised."""
        self._first = await self._receive()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._has_ended:
            raise StopAsyncIteration
        chunk, self._first = self._first, None
        if chunk is None:
            chunk = await self._receive()
        if not chunk:
            self._has_ended = True
            await reply(self._connection, DONE, REPLY_TIMEOUT)
            raise StopAsyncIteration
        return chunk

    async def _receive(self) -> bytes:
        kind, offset, payload = await self._connection.receive(REPLY_TIMEOUT)
        if kind == Kind.CONTROL:
            DONE.read(payload)
            raise AgentProtocolError("content without an end")
        if kind != Kind.CONTENT or offset != self._offset:
            raise AgentProtocolError(f"frame of kind {kind} at {offset} instead of content")
        self._offset += len(payload)
        return payload


async def _send_content(connection: Connection, chunks: AsyncIterable[bytes]) -> None:
    """Sends all chunks and the end. Stops where the agent has hung up: it has said why."""
    connection.expect_bulk()
    offset = 0
    async for chunk in chunks:
        for piece in pieces(chunk):
            if not await connection.send_data(Kind.CONTENT, offset, piece):
                return
            offset += len(piece)
    await connection.send_data(Kind.CONTENT, offset, b"")
