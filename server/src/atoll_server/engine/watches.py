# SPDX-License-Identifier: Apache-2.0
"""Watches over directories of a sandbox.

They live in the sandbox's agent, which keeps the changes: there is no table of them here, and a server that is started
again finds them all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentError, AgentFailure
from atoll_server.agent.watches import MAX_WATCHES
from atoll_server.engine import errors
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

_CODES: Final[dict[str, type[errors.EngineError]]] = {
    "not_found": errors.WatchNotFound,
    "invalid": errors.InvalidRequest,
}


class Watches:
    """What one does with the watches of one sandbox. Nothing is kept between two calls."""

    def __init__(self, agent: AgentClient, workdir: str, sandbox_id: SandboxId) -> None:
        self._agent = agent
        self._paths = Paths(workdir, sandbox_id)
        self._sandbox_id = sandbox_id

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
        with self._translated():
            return tuple(map(_known, await self._agent.watches()))

    async def get(self, watch_id: WatchId) -> Watch:
        """A watch. Raises `WatchNotFound`."""
        with self._translated(watch_id):
            records = await self._agent.watches(_number(watch_id))
        if len(records) != 1 or records[0].number != _number(watch_id):
            raise errors.SandboxFailed("the sandbox's agent answered for another watch")
        return _known(records[0])

    async def stop(self, watch_id: WatchId) -> None:
        """Forget a watch. Who follows it hears its end. Raises `WatchNotFound`."""
        with self._translated(watch_id):
            await self._agent.unwatch(_number(watch_id))

    def changes(self, watch_id: WatchId, *, since: int = 0, follow: bool = True) -> Changes:
        """The changes after number `since`, and what goes on to change."""
        return Changes(self, watch_id, since, follow)

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

    @contextlib.contextmanager
    def _translated(self, watch_id: WatchId | None = None) -> Iterator[None]:
        try:
            yield
        except AgentFailure as failure:
            raise self._translate(failure, watch_id) from failure

    def _translate(self, failure: AgentFailure, about: WatchId | None) -> errors.EngineError:
        if not isinstance(failure, AgentError):
            return errors.SandboxFailed(str(failure), sandbox_id=self._sandbox_id, op="files")
        kind = _CODES.get(failure.code, errors.Internal)
        message = failure.message
        if kind is errors.WatchNotFound:
            message = f"no watch {about}: unknown, stopped, or nobody read it for too long"
        return kind(message, sandbox_id=self._sandbox_id, op="files")


class Changes:
    """The changes of a watch: `async with` begins, `async for` gives them and at last the `ChangesEnd`."""

    def __init__(self, watches: Watches, watch_id: WatchId, since: int, follow: bool) -> None:
        self.since = since
        self._watches = watches
        self._id = watch_id
        self._number = _number(watch_id)
        self._follow = follow
        self._is_over = False

    async def __aenter__(self) -> Self:
        with self._watches._translated(self._id):
            changes = self._watches._agent.changes(
                self._number, since=self.since, follow=self._follow
            )
            self._changes = await changes.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._changes.__aexit__(kind, error, traceback)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FileChange | ChangesEnd:
        if self._is_over:
            raise StopAsyncIteration
        with self._watches._translated(self._id):
            change = await anext(self._changes, None)
        if change is not None:
            return change
        self._is_over = True
        return ChangesEnd(self._changes.last, self._changes.ended)


def _known(record: WatchRecord) -> Watch:
    return Watch(watch_id(record.number), record)


def _number(watch_id: WatchId) -> int:
    number = watch_number(watch_id)
    if number is None:
        raise errors.WatchNotFound("no watch has such an id: ids look like watch_ and a number")
    return number
