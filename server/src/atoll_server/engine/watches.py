# SPDX-License-Identifier: Apache-2.0
"""Watches over directories of a sandbox.

They live in the sandbox's agent, which keeps the changes: there is no table of them here, and a server that is started
again finds them all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final, Self

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentError
from atoll_server.agent.watches import MAX_WATCHES, WatchChanges
from atoll_server.engine import errors
from atoll_server.engine.failures import Failures, Kinds
from atoll_server.engine.ids import watch_id, watch_number
from atoll_server.engine.model import (
    ChangesEnd,
    FileChange,
    SandboxId,
    Watch,
    WatchId,
    WatchRecord,
)
from atoll_server.engine.paths import AnyPath, Paths

WATCHES_LIMIT: Final = MAX_WATCHES

_KINDS: Final[Kinds] = {"not_found": errors.WatchNotFound, "invalid": errors.InvalidRequest}
_MESSAGES: Final = {"not_found": "no watch {}: unknown, stopped, or nobody read it for too long"}


class Watches:
    """What one does with the watches of one sandbox. Nothing is kept between two calls."""

    def __init__(self, agent: AgentClient, workdir: str, sandbox_id: SandboxId) -> None:
        self._agent = agent
        self._paths = Paths(workdir, sandbox_id)
        self._sandbox_id = sandbox_id
        self._failures = Failures(sandbox_id, _KINDS, _MESSAGES)

    async def start(
        self, path: AnyPath, *, recursive: bool = False, linger: float | None = None
    ) -> Watch:
        """Watch a directory; what happens there from the answer on is told. Raises `ResourceExhausted`."""
        linger_ms = None if linger is None else round(linger * 1000)
        with self._paths.translated(path), self._counted():
            record = await self._agent.watch(
                self._paths.resolve(path), recursive=recursive, linger_ms=linger_ms
            )
        return _known(record)

    async def list(self) -> tuple[Watch, ...]:
        """All watches, the oldest first; those that have ended too, as long as they can be read."""
        with self._failures.translated():
            return tuple(map(_known, await self._agent.watches()))

    async def get(self, watch_id: WatchId) -> Watch:
        """A watch. Raises `WatchNotFound`."""
        with self._failures.translated(watch_id):
            records = await self._agent.watches(_number(watch_id))
        if len(records) != 1 or records[0].number != _number(watch_id):
            raise errors.SandboxFailed("the sandbox's agent answered for another watch")
        return _known(records[0])

    async def stop(self, watch_id: WatchId) -> None:
        """Forget a watch. Who follows it hears its end. Raises `WatchNotFound`."""
        with self._failures.translated(watch_id):
            await self._agent.unwatch(_number(watch_id))

    def changes(self, watch_id: WatchId, *, since: int = 0, follow: bool = True) -> Changes:
        """The changes after number `since`, and what goes on to change."""
        with self._failures.translated(watch_id):
            source = self._agent.changes(_number(watch_id), since=since, follow=follow)
        return Changes(watch_id, source, self._failures, since)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """One watch too many is for now: others end."""
        try:
            yield
        except AgentError as error:
            if error.code != "limit":
                raise
            message = f"the sandbox has {WATCHES_LIMIT} watches, which is the limit: stop one"
            raise errors.ResourceExhausted(message, sandbox_id=self._sandbox_id) from error


class Changes:
    """The changes of a watch: `async with` begins, `async for` gives them and at last the `ChangesEnd`."""

    def __init__(
        self, watch_id: WatchId, source: WatchChanges, failures: Failures, since: int
    ) -> None:
        self.since = since
        self._id = watch_id
        self._source = source
        self._failures = failures
        self._is_over = False

    async def __aenter__(self) -> Self:
        with self._failures.translated(self._id):
            await self._source.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._source.__aexit__(*raised)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FileChange | ChangesEnd:
        if self._is_over:
            raise StopAsyncIteration
        with self._failures.translated(self._id):
            change = await anext(self._source, None)
        if change is not None:
            return change
        self._is_over = True
        return ChangesEnd(self._source.last, self._source.ended)


def _known(record: WatchRecord) -> Watch:
    return Watch(watch_id(record.number), record)


def _number(watch_id: WatchId) -> int:
    number = watch_number(watch_id)
    if number is None:
        raise errors.WatchNotFound("no watch has such an id: ids look like watch_ and a number")
    return number
