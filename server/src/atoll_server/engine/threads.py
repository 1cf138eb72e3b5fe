# SPDX-License-Identifier: Apache-2.0
"""Blocking work of the engine, each piece on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work on a thread of its own, which ends with it: building changes its thread's namespaces.

    Cancelling the caller does not stop the thread, so whoever must not lose its result shields the call.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # None only if T allows it

    def body() -> None:
        try:
            result = work()
        except BaseException as error:
            loop.call_soon_threadsafe(finish, None, error)
        else:
            loop.call_soon_threadsafe(finish, result, None)

    threading.Thread(target=body, name="atoll-work", daemon=True).start()
    return await done


def begin(work: Callable[[], T]) -> Future[T]:
    """Do blocking work on a thread of its own, beside that of the caller, who asks for the result when it is needed."""
    result: Future[T] = Future()

    def body() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=body, name="atoll-work", daemon=True).start()
    return result
