# SPDX-License-Identifier: Apache-2.0
"""Following a stream until it is over, over as many connections as that takes."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from .._colour import async_sleep
from .._following import Patience, StreamReader
from .._requests import Request
from ..errors import ConnectionLost, Error
from ._transport import AsyncAnswer, AsyncTransport

Event = TypeVar("Event")


async def follow_stream(
    transport: AsyncTransport,
    reader: StreamReader[Event],
    request: Callable[[], Request],
    on_open: Callable[[AsyncAnswer], None] | None = None,
) -> AsyncGenerator[Event, None]:
    """All that `reader` makes of the answers to one request after another, until it is over.

    `request` makes the next one, which begins where the reader is. `on_open` gets each answer before it is read.
    Raises what does not pass, and what goes on for a minute.
    """
    patience = Patience()
    while not reader.is_over:
        try:
            async with aclosing(_read(transport, reader, request(), patience, on_open)) as events:
                async for event in events:
                    yield event
            if not reader.is_over:
                raise ConnectionLost("the stream ended before what it tells of")
        except Error as error:
            await wait_or_raise(patience, error)


async def wait_or_raise(patience: Patience, error: Error) -> None:
    """Waits before another attempt; raises `error` where there is no point in one."""
    delay = patience.plan(error, random.random())
    if delay is None:
        raise error
    await async_sleep(delay)


async def _read(
    transport: AsyncTransport,
    reader: StreamReader[Event],
    request: Request,
    patience: Patience,
    on_open: Callable[[AsyncAnswer], None] | None,
) -> AsyncGenerator[Event, None]:
    """The events of one connection."""
    reader.reconnect()
    async with transport.open(request) as answer:
        if on_open is not None:
            on_open(answer)
        async with aclosing(answer.aiter_bytes()) as chunks:
            async for chunk in chunks:
                for event in reader.feed(chunk):
                    yield event
                if reader.has_news:
                    patience.reset()
                if reader.is_over:
                    return
