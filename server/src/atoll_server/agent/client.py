# SPDX-License-Identifier: Apache-2.0
"""What the server can ask of a sandbox's agent: one method per operation, one connection per call.

Cancelling a call closes its connection, which makes the agent drop a file operation. Nothing is read ahead of the
consumer but one buffer, so that a slow consumer slows the process or the file in the sandbox.
"""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypeVar

from atoll_server.agent.connection import Connection, send_alone
from atoll_server.agent.errors import AgentError, AgentProtocolError
from atoll_server.agent.frames import MAX_DATA_BYTES, Kind
from atoll_server.agent.messages import (
    DONE,
    FILE,
    GENERATION,
    HELLO,
    LISTING,
    READY,
    SIGNALLED,
    STARTED,
    STAT,
    UNPACKED,
    WRITTEN,
    Answer,
    Fields,
    Hello,
    ListedReply,
    StartRequest,
    read_entry,
    read_exit,
    wire_text,
)
from atoll_server.engine.model import Entry, Exit, Listing, Output, Written

START_TIMEOUT: Final = 10.0
EXIT_MARGIN: Final = 10.0
REPLY_TIMEOUT: Final = 30.0
TREE_TIMEOUT: Final = 600.0
MAX_LISTING_BYTES: Final = 64 << 20

_KILL_TREE: Final = {"op": "signal", "signal": int(signals.SIGKILL), "tree": True}
_STREAMS: Final = {int(Kind.STDOUT): 1, int(Kind.STDERR): 2}

T = TypeVar("T")


class AgentClient:
    """Holds nothing but the socket's path: any number of operations may run at once."""

    def __init__(self, socket_path: str) -> None:
        self.path = socket_path

    async def hello(self, timeout: float) -> Hello:
        """Meets the agent, waiting until it listens."""
        with await Connection.open(self.path, wait=timeout) as connection:
            await connection.send_control({"op": "hello", "generation": GENERATION})
            return await _reply(connection, HELLO, timeout)

    def start(self, request: StartRequest, *, kill_on_leave: bool = True) -> AgentProcess:
        """A process, running inside `async with`. Left before its exit, its whole tree is killed."""
        return AgentProcess(self, request, kill_on_leave)

    async def signal(self, process: int, signal: int, *, tree: bool) -> int:
        """Signals a process started earlier, or its whole tree. Answers how many were reached."""
        fields = {"process": process, "signal": signal, "tree": tree}
        return (await self._ask("signal", fields, SIGNALLED)).signalled

    async def kill_largest(self) -> bool:
        """Kills the process that holds most memory. False if there is none."""
        return (await self._ask("kill_largest", {}, SIGNALLED)).signalled > 0

    async def stat(self, path: bytes, *, follow: bool = True) -> Entry:
        fields = {"path": wire_text(path), "follow": follow}
        reply = await self._ask("stat", fields, STAT)
        return read_entry(reply.entry)

    async def list(self, path: bytes, *, depth: int, limit: int) -> Listing:
        entries: list[Entry] = []
        budget = MAX_LISTING_BYTES
        fields = {"path": wire_text(path), "depth": depth, "limit": limit}
        with await self._begin("list", fields) as connection:
            while True:
                payload = await _control(connection, TREE_TIMEOUT)
                reply = LISTING.read(payload)
                if isinstance(reply, ListedReply):
                    return Listing(tuple(entries), reply.truncated)
                entries.extend(map(read_entry, reply.entries))
                budget -= len(payload)
                if len(entries) > limit or budget < 0:
                    raise AgentProtocolError("agent lists more than it was asked for")

    @asynccontextmanager
    async def read(
        self, path: bytes, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[tuple[Entry, Content]]:
        fields = {"path": wire_text(path), "offset": offset, "length": length}
        with await self._begin("read", fields) as connection:
            reply = await _reply(connection, FILE, REPLY_TIMEOUT)
            yield read_entry(reply.entry), Content(connection)

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
            await _reply(connection, READY, REPLY_TIMEOUT)
            await _send_content(connection, chunks)
            reply = await _reply(connection, WRITTEN, TREE_TIMEOUT)
        return Written(path, reply.size, reply.created)

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
            await _reply(connection, READY, REPLY_TIMEOUT)
            await _send_content(connection, chunks)
            return (await _reply(connection, UNPACKED, TREE_TIMEOUT)).entries

    async def _begin(self, op: str, fields: Fields) -> Connection:
        connection = await Connection.open(self.path)
        try:
            await connection.send_control({"op": op, "generation": GENERATION, **fields})
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
            return await _reply(connection, answer, timeout)


class AgentProcess:
    """A process of the sandbox: `async with` starts it, `async for` gives its output as it comes and its exit last."""

    process: int
    pid: int

    def __init__(self, agent: AgentClient, request: StartRequest, kill_on_leave: bool) -> None:
        self._agent = agent
        self._request = request
        self._must_kill = kill_on_leave
        self._has_exited = False
        self._stdin_offset = 0
        self._offsets = {1: 0, 2: 0}

    async def __aenter__(self) -> Self:
        self._connection = await Connection.open(self._agent.path)
        try:
            await self._connection.send_control(self._request.fields())
            started = await _reply(self._connection, STARTED, START_TIMEOUT)
        except AgentError:
            self._connection.close()
            raise
        except BaseException:
            # It may run already, or soon, unknown to us.
            self._connection.leave(_KILL_TREE)
            raise
        self.process, self.pid = started.process, started.pid
        self._deadline = self._exit_deadline()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._must_kill and not self._has_exited and not self._has_killed_tree():
            return self._connection.leave(_KILL_TREE)
        self._connection.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output | Exit:
        if self._has_exited:
            raise StopAsyncIteration
        kind, offset, payload = await self._connection.receive(self._patience())
        if stream := _STREAMS.get(kind):
            if offset != self._offsets[stream]:
                raise AgentProtocolError(f"output at {offset} instead of {self._offsets[stream]}")
            self._offsets[stream] += len(payload)
            return Output(stream, offset, payload)
        if kind != Kind.CONTROL:
            raise AgentProtocolError(f"frame of kind {kind} from a process")
        exit = read_exit(payload)
        self._has_exited = True
        return exit

    async def write_stdin(self, data: bytes) -> bool:
        """Feeds the process at its own pace. False once nobody takes it, which is no error."""
        for piece in _pieces(data):
            if not await self._send_stdin(piece):
                return False
        return True

    async def close_stdin(self) -> None:
        await self._send_stdin(b"")

    async def signal(self, signal: int, *, tree: bool = True) -> int:
        return await self._agent.signal(self.process, signal, tree=tree)

    async def _send_stdin(self, piece: memoryview | bytes) -> bool:
        # A process may leave its input alone for as long as it likes.
        offset = self._stdin_offset
        self._stdin_offset += len(piece)
        return await self._connection.send_data(Kind.STDIN, offset, piece, timeout=None)

    def _exit_deadline(self) -> float | None:
        if self._request.timeout is None:
            return None
        limit = self._request.timeout + self._request.grace + EXIT_MARGIN
        return asyncio.get_running_loop().time() + limit

    def _patience(self) -> float | None:
        # A slow consumer may get here late; what the agent has to say is then still on its way.
        if self._deadline is None:
            return None
        return max(EXIT_MARGIN, self._deadline - asyncio.get_running_loop().time())

    def _has_killed_tree(self) -> bool:
        # On a connection of its own, because ours may be full of input that the process does not take. It must not
        # wait: leaving is often a cancellation, and what cancelled us may do so again.
        request = {**_KILL_TREE, "generation": GENERATION, "process": self.process}
        return send_alone(self._agent.path, request)


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
            await _reply(self._connection, DONE, REPLY_TIMEOUT)
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


async def _reply(connection: Connection, answer: Answer[T], timeout: float) -> T:
    return answer.read(await _control(connection, timeout))


async def _control(connection: Connection, timeout: float) -> bytes:
    kind, _, payload = await connection.receive(timeout)
    if kind != Kind.CONTROL:
        raise AgentProtocolError(f"frame of kind {kind} instead of an answer")
    return payload


async def _send_content(connection: Connection, chunks: AsyncIterable[bytes]) -> None:
    """Sends all chunks and the end. Stops where the agent has hung up: it has said why."""
    connection.expect_bulk()
    offset = 0
    async for chunk in chunks:
        for piece in _pieces(chunk):
            if not await connection.send_data(Kind.CONTENT, offset, piece):
                return
            offset += len(piece)
    await connection.send_data(Kind.CONTENT, offset, b"")


def _pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), MAX_DATA_BYTES):
        yield view[start : start + MAX_DATA_BYTES]
