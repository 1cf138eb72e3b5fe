# SPDX-License-Identifier: Apache-2.0
"""What the server can ask of a sandbox's agent: one method per operation, one connection per call.

Cancelling a call closes its connection, which makes the agent drop a file operation. Nothing is read ahead of the
consumer but one buffer, so that a slow consumer slows the process or the file in the sandbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from atoll_server.agent.connection import Connection
from atoll_server.agent.errors import AgentError, AgentProtocolError
from atoll_server.agent.exchange import REPLY_TIMEOUT, TREE_TIMEOUT, begin, reply
from atoll_server.agent.files import Content, read_listing, send_content
from atoll_server.agent.messages import (
    CONNECTED,
    DONE,
    ENDS_FEATURE,
    FILE,
    GENERATION,
    HELLO,
    INTRODUCED,
    READY,
    SIGNALLED,
    SOCKETS_FEATURE,
    STAT,
    UNPACKED,
    WATCHED,
    WRITTEN,
    Answer,
    Fields,
    Hello,
    StartRequest,
    read_entry,
    wire_text,
)
from atoll_server.agent.ports import PortStream, read_listeners
from atoll_server.agent.process import STARTS_AT_ONCE, AgentProcess, AttachedProcess
from atoll_server.agent.process_input import ProcessInput
from atoll_server.agent.processes import ProcessEnds, read_processes
from atoll_server.agent.watches import WatchChanges, read_watches
from atoll_server.engine.model import (
    Entry,
    ListeningPort,
    Listing,
    ProcessRecord,
    TerminalSize,
    WatchRecord,
    Written,
)

T = TypeVar("T")


class AgentClient:
    """Holds no connection: any number of operations may run at once, and `STARTS_AT_ONCE` starts of processes."""

    def __init__(self, socket_path: str) -> None:
        self.path = socket_path
        self.generation = GENERATION
        self.tells_ends = False
        self.takes_sockets = False
        self.starting = asyncio.Semaphore(STARTS_AT_ONCE)

    async def hello(self, timeout: float) -> Hello:
        """Meets the agent, waiting until it listens, and speaks as it does from then on."""
        with await Connection.open(self.path, wait=timeout) as connection:
            await connection.send_control({"op": "hello", "generation": GENERATION})
            hello = await reply(connection, HELLO, timeout)
        self.generation = min(GENERATION, hello.generation)
        self.tells_ends = ENDS_FEATURE in hello.features
        self.takes_sockets = SOCKETS_FEATURE in hello.features
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
        return AttachedProcess(self.path, self._request("attach", fields))

    async def processes(self, process: int | None = None) -> list[ProcessRecord]:
        """Those that run and those that have ended and are kept, oldest first; or the one that is named."""
        wanted = {} if process is None else {"process": process}
        with await self._begin("processes", wanted) as connection:
            return await read_processes(connection)

    def ends(self) -> ProcessEnds:
        """Every process that ends from now on, inside `async with`. For an agent that `tells_ends`."""
        return ProcessEnds(self.path, self._request("ends", {}))

    @asynccontextmanager
    async def stdin(self, process: int) -> AsyncIterator[ProcessInput]:
        """A way into a process's input, for as long as the block lasts."""
        with await self._begin("stdin", {"process": process}) as connection:
            await reply(connection, READY, REPLY_TIMEOUT)
            yield ProcessInput(connection)

    async def resize(self, process: int, size: TerminalSize) -> None:
        fields = {"process": process, "rows": size.rows, "cols": size.cols}
        await self._ask("resize", fields, DONE)

    async def forget(self, process: int) -> None:
        """Drops the record and the output of a process that has ended."""
        await self._ask("forget", {"process": process}, DONE)

    async def configure(self, *, keep_ended: int, keep_ended_ms: int) -> None:
        fields = {"keep_ended": keep_ended, "keep_ended_ms": keep_ended_ms}
        await self._ask("configure", fields, DONE)

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
        number = (await self._ask("watch", fields, WATCHED, TREE_TIMEOUT)).watch
        found = await self.watches(number)
        if len(found) != 1:
            raise AgentProtocolError("agent does not know the watch that it has just made")
        return found[0]

    async def watches(self, watch: int | None = None) -> list[WatchRecord]:
        """Those that are active and those that have ended and are kept, oldest first; or the one that is named."""
        wanted = {} if watch is None else {"watch": watch}
        with await self._begin("watches", wanted) as connection:
            return await read_watches(connection)

    def changes(self, watch: int, *, since: int = 0, follow: bool = True) -> WatchChanges:
        """The changes after number `since`, inside `async with`; 0 is from the oldest that is kept."""
        fields = {"watch": watch, "since": since, "follow": follow}
        return WatchChanges(self.path, self._request("changes", fields), since)

    async def unwatch(self, watch: int) -> None:
        """Forgets a watch, and ends whoever reads its changes."""
        await self._ask("unwatch", {"watch": watch}, DONE)

    async def dial(self, port: int, early: bytes = b"") -> PortStream:
        """A connection to a port inside, and `early` on its way already. Who gets it closes it."""
        connection = await self._begin("dial", {"port": port}, is_bulk=True)
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
        with await self._begin("ports", wanted) as connection:
            return await read_listeners(connection, wait + REPLY_TIMEOUT)

    async def stat(self, path: bytes, *, follow: bool = True) -> Entry:
        fields = {"path": wire_text(path), "follow": follow}
        answered = await self._ask("stat", fields, STAT)
        return read_entry(answered.entry)

    async def list(self, path: bytes, *, depth: int, limit: int) -> Listing:
        fields = {"path": wire_text(path), "depth": depth, "limit": limit}
        with await self._begin("list", fields) as connection:
            return await read_listing(connection, limit)

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
            await send_content(connection, chunks)
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
            await send_content(connection, chunks)
            return (await reply(connection, UNPACKED, TREE_TIMEOUT)).entries

    def _request(self, op: str, fields: Fields) -> Fields:
        """What asks for an operation, of an agent that is new enough to know it."""
        if self.generation < INTRODUCED[op]:
            message = "the sandbox is older than this operation; create a new one"
            raise AgentError("unsupported", 0, message)
        return {"op": op, "generation": self.generation, **fields}

    async def _begin(self, op: str, fields: Fields, *, is_bulk: bool = False) -> Connection:
        """A connection on which that has been asked. `is_bulk`: much may come over it."""
        brings = is_bulk and self.takes_sockets
        return await begin(self.path, self._request(op, fields), brings_socket=brings)

    async def _ask(
        self,
        op: str,
        fields: Fields,
        answer: Answer[T],
        timeout: float = REPLY_TIMEOUT,
    ) -> T:
        with await self._begin(op, fields) as connection:
            return await reply(connection, answer, timeout)
