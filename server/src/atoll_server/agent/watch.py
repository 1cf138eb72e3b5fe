# SPDX-License-Identifier: Apache-2.0
"""Watched directories: what an agent says about them as typed records, and their changes over one connection."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Annotated, Final, Protocol, Self

from msgspec import Meta, Raw, Struct, field

from atoll_server.agent.connection import Connection
from atoll_server.agent.errors import AgentProtocolError
from atoll_server.agent.messages import (
    Answer,
    Count,
    Done,
    Fields,
    Instant,
    read_text,
    read_text_or_none,
)
from atoll_server.agent.process import control
from atoll_server.engine.model import ChangeKind, FileChange, WatchEnd, WatchRecord

FIRST_CHANGES_TIMEOUT: Final = 600.0
"""For what is there already: a tree may have to be gone through anew before that can be told."""

Number = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class WatchedReply(Struct, tag_field="event", tag="done"):
    watch: Number
    path: Raw


class WatchReply(Struct):
    watch: Number
    path: Raw
    recursive: bool
    started_ns: Instant
    first: Number
    last: Count
    ended: WatchEnd | None


class WatchesReply(Struct, tag_field="event", tag="watches"):
    watches: list[WatchReply]


class ChangeReply(Struct):
    number: Number
    kind: ChangeKind
    path: Raw
    old_path: Raw = field(name="from")
    directory: bool
    at_ns: Instant


class ChangesReply(Struct, tag_field="event", tag="changes"):
    changes: list[ChangeReply]


class ChangesEnd(Struct, tag_field="event", tag="done"):
    """`last` is the number of the last change told."""

    last: Count
    ended: WatchEnd | None


WATCHED: Final = Answer(WatchedReply)
WATCHES: Final = Answer[WatchesReply | Done](WatchesReply, Done)
CHANGES: Final = Answer[ChangesReply | ChangesEnd](ChangesReply, ChangesEnd)


def read_watch(reply: WatchReply) -> WatchRecord:
    if reply.first > reply.last + 1:
        raise AgentProtocolError("a watch whose oldest change is newer than its newest")
    return WatchRecord(
        number=reply.watch,
        path=read_text(reply.path),
        recursive=reply.recursive,
        started_ns=reply.started_ns,
        first=reply.first,
        last=reply.last,
        ended=reply.ended,
    )


def read_change(reply: ChangeReply) -> FileChange:
    path, old_path = read_text_or_none(reply.path), read_text_or_none(reply.old_path)
    if path is None and reply.kind is not ChangeKind.OVERFLOW:
        raise AgentProtocolError(f"a change of kind {reply.kind.value} without a path")
    if (old_path is not None) != (reply.kind is ChangeKind.RENAMED):
        raise AgentProtocolError("what is renamed has an old path, and nothing else has")
    return FileChange(
        number=reply.number,
        kind=reply.kind,
        path=path,
        from_path=old_path,
        is_directory=reply.directory,
        at_ns=reply.at_ns,
    )


class Agent(Protocol):
    """What is needed of the client: where its agent listens."""

    path: str


class WatchChanges:
    """The changes of a watch: entered once the agent knows it, `async for` gives them in order. If they were not to be
    followed it ends with what there is now, else when the watch does; then `last` and `ended` say where and why.
    """

    last: int
    ended: WatchEnd | None

    def __init__(self, agent: Agent, fields: Fields, since: int) -> None:
        self._agent = agent
        self._fields = fields
        self.last, self.ended = since, None
        self._waiting: deque[ChangeReply] = deque()
        self._is_over = False

    async def __aenter__(self) -> Self:
        self._connection = await Connection.open(self._agent.path)
        try:
            await self._connection.send_control(self._fields)
            await self._receive(FIRST_CHANGES_TIMEOUT)
        except BaseException:
            self._connection.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FileChange:
        while not self._waiting:
            if self._is_over:
                raise StopAsyncIteration
            await self._receive(None)
        change = read_change(self._waiting.popleft())
        if change.number <= self.last:
            raise AgentProtocolError(f"change {change.number} after change {self.last}")
        self.last = change.number
        return change

    async def _receive(self, timeout: float | None) -> None:
        answered = CHANGES.read(await control(self._connection, timeout))
        if isinstance(answered, ChangesReply):
            self._waiting.extend(answered.changes)
            return
        if answered.last < self.last:
            raise AgentProtocolError(f"the last change is {answered.last} after {self.last}")
        self._is_over = True
        self.last, self.ended = answered.last, answered.ended
