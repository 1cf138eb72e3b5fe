# SPDX-License-Identifier: Apache-2.0
"""Clients that go away before they have their answer: the work for them is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from atoll_server.api.errors import ClientGone

Result = TypeVar("Result")

WATCH_AFTER_SECONDS = 0.02


async def unless_gone(
    receive: Receive,
    work: Coroutine[Any, Any, Result],
    *,
    watch_after: float = WATCH_AFTER_SECONDS,
) -> Result:
    """The result of `work`, which is cancelled as soon as the client goes away: then `ClientGone`.

    Work that is done within `watch_after` seconds is not cancelled.
    """
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            watchers: list[asyncio.Task[None]] = []
            # Most work is done before watching over it would begin, and then costs no task and no turn of the loop.
            # A client that left meanwhile is noticed then.
            timer = asyncio.get_running_loop().call_later(
                watch_after, lambda: watchers.append(group.create_task(wait_gone(receive)))
            )
            try:
                result = await work
            except Exception as error:  # carried past the group, which would wrap it
                failure = error
            finally:
                timer.cancel()
            for watcher in watchers:
                watcher.cancel()
    except BaseExceptionGroup:
        raise ClientGone from None
    if failure is not None:
        raise failure
    return result


async def wait_gone(receive: Receive) -> None:
    """Raise `ClientGone` once the client has closed its connection. For use after the body was read."""
    while (await receive())["type"] != "http.disconnect":
        continue
    raise ClientGone
