# SPDX-License-Identifier: Apache-2.0
"""The lifecycle's tasks, all of which are waited for at the end, and what becomes of their failures."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any, TypeVar

from atoll_server.engine import errors

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Tasks:
    """Runs work, inside `async with tasks.open()`."""

    def __init__(self) -> None:
        self._beside: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Take work until the end of the block, and wait for all of it but that which may be cancelled."""
        async with asyncio.TaskGroup() as self._group:
            try:
                yield
            finally:
                for task in self._beside:
                    task.cancel()

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T | errors.EngineError]:
        """Do work to its end, however long that takes."""
        return self._group.create_task(outcome(work))

    def run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do work until it is done or the server ends."""
        self._may_cancel(self.run(work))

    async def complete(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work to its end even if the caller is cancelled. Raises what went wrong as an `EngineError`."""
        done = await asyncio.shield(self.run(work))
        if isinstance(done, errors.EngineError):
            raise done
        return done

    def run_vital(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do what the server is no good without: a failure of it ends the server."""
        return self._group.create_task(work)

    def run_endless(self, work: Coroutine[Any, Any, None]) -> None:
        """The same with what only the server's end stops."""
        self._may_cancel(self.run_vital(work))

    def _may_cancel(self, task: asyncio.Task[Any]) -> None:
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)


async def outcome(work: Awaitable[T]) -> T | errors.EngineError:
    """Errors as values: a task of the group that raised would take the group, and the server, down."""
    try:
        return await work
    except errors.EngineError as error:
        return error
    except Exception:
        _log.exception("a lifecycle task failed")
        return errors.Internal("something went wrong; see the server's log")
