# SPDX-License-Identifier: Apache-2.0
"""Watched directories: a list of them, and the changes of one over a connection."""

from __future__ import annotations

from collections import deque
from typing import Final, Self

from atoll_server.agent.connection import Connection
from atoll_server.agent.errors import AgentProtocolError
from atoll_server.agent.exchange import REPLY_TIMEOUT, begin, control
from atoll_server.agent.messages import (
    CHANGES,
    WATCHES,
    ChangeReply,
    ChangesReply,
    Done,
    Fields,
    read_change,
    read_watch,
)
from atoll_server.engine.model import FileChange, WatchEnd, WatchRecord

MAX_WATCHES: Final = 64

FIRST_CHANGES_TIMEOUT: Final = 600.0
"""For what is there already: a tree may have to be gone through anew before that can be told."""


async def read_watches(connection: Connection) -> list[WatchRecord]:
    """All watches that an agent lists."""
    found: list[WatchRecord] = []
    while True:
        answered = WATCHES.read(await control(connection, REPLY_TIMEOUT))
        if isinstance(answered, Done):
            return found
        found.extend(map(read_watch, answered.watches))
        if not answered.watches or len(found) > MAX_WATCHES:
            raise AgentProtocolError("agent lists more watches than there can be")


class WatchChanges:
    """The changes of a watch: entered once the agent knows it, `async for` gives them in order. If they were not to be
    followed it ends with what there is now, else when the watch does; then `last` and `ended` say where and why.
    """

    last: int
    ended: WatchEnd | None

    def __init__(self, path: str, request: Fields, since: int) -> None:
        self._path = path
        self._request = request
        self.last, self.ended = since, None
        self._waiting: deque[ChangeReply] = deque()
        self._is_over = False

    async def __aenter__(self) -> Self:
        self._connection = await begin(self._path, self._request)
        try:
            await self._receive(FIRST_CHANGES_TIMEOUT)
        except BaseException:
            self._connection.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
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
