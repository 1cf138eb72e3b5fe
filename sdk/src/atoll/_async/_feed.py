# SPDX-License-Identifier: Apache-2.0
"""What happens on a server: to be iterated, and subscriptions that call a function for each event."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType

from .. import _requests
from .._colour import AsyncBackground, async_settle
from .._feed import LATEST, EventReader, is_beside
from .._requests import Request
from ..errors import Error, InvalidRequest
from ..models import Event
from ._follow import follow_stream
from ._transport import AsyncAnswer, AsyncTransport

AsyncOnEvent = Callable[[Event], Awaitable[object] | object]
"""Called with each event; what it returns is waited for where it can be."""

_log = logging.getLogger("atoll")


async def read_events(
    transport: AsyncTransport,
    sandbox_id: str | None,
    types: tuple[str, ...],
    since: str | None,
    *,
    follow: bool,
) -> AsyncGenerator[Event, None]:
    """The events after the one with the id `since`, over as many connections as that takes."""
    reader = EventReader(since)

    def request() -> Request:
        return _requests.stream_events(sandbox_id, types=types, since=reader.last, follow=follow)

    async with aclosing(follow_stream(transport, reader, request)) as events:
        async for event in events:
            yield event


async def subscribe(
    transport: AsyncTransport,
    sandbox_id: str | None,
    types: tuple[str, ...],
    on_event: AsyncOnEvent,
    *,
    from_start: bool = False,
) -> AsyncSubscription:
    """A subscription to what happens from now on, or from the oldest that is kept. Raises what the server refuses."""
    reader = EventReader(LATEST)
    # Asked for nothing but where "now" is: what happens after this call is told, however late the subscription begins.
    request = _requests.stream_events(sandbox_id, types=types, since=LATEST, follow=False)
    async with aclosing(follow_stream(transport, reader, lambda: request)) as events:
        async for _ in events:
            pass
    since = None if from_start else reader.last
    subscription = AsyncSubscription(transport, sandbox_id, types, since, on_event)
    subscription._begin()
    return subscription


class AsyncSubscription:
    """A function that is called for each event, beside the rest of the program, one after the other and in order.

    It goes on over broken connections and restarts of the server, until it is cancelled, its client is closed, or
    the sandbox that it is about has ended. What the function raises is logged, and does not end it. As a context
    manager it is cancelled at the end of the block.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        sandbox_id: str | None,
        types: tuple[str, ...],
        since: str | None,
        on_event: AsyncOnEvent,
    ) -> None:
        self._transport = transport
        self._sandbox_id = sandbox_id
        self._types = types
        self._reader = EventReader(since)
        self._on_event = on_event
        self._answer: AsyncAnswer | None = None
        self._is_cancelled = False
        self._error: Error | None = None
        self._background = AsyncBackground(self._run, "atoll-events")

    @property
    def types(self) -> tuple[str, ...]:
        """Which events it is about; none are all of them."""
        return self._types

    @property
    def is_active(self) -> bool:
        """Whether there may be more calls."""
        return not self._is_cancelled and self._background.is_alive

    @property
    def error(self) -> Error | None:
        """What has ended it, where nobody meant it to: the server was gone for longer than a minute, say."""
        return self._error

    async def wait(self, timeout_ms: int | None = None) -> bool:
        """Waits until there will be no more calls; whether that is so after `timeout_ms`."""
        return await self._background.wait(None if timeout_ms is None else timeout_ms / 1000)

    async def cancel(self) -> None:
        """Ends it: no call begins after this. One that is at work is waited for, unless it is what cancels."""
        self._is_cancelled = True
        self._transport.subscriptions.discard(self)
        await self._background.stop(self._hang_up)

    async def __aenter__(self) -> AsyncSubscription:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.cancel()

    def _begin(self) -> None:
        self._transport.subscriptions.add(self)
        self._background.start()

    async def _run(self) -> None:
        try:
            await self._follow()
        except Error as error:
            # Hung up on, it fails as it is to.
            if not self._is_cancelled:
                self._error = error
                _log.error("%r hears of no more events: %s", self, error)
        finally:
            self._transport.subscriptions.discard(self)

    async def _follow(self) -> None:
        feed = follow_stream(self._transport, self._reader, self._request, self._note_answer)
        async with aclosing(feed) as events:
            async for event in events:
                if not self._is_cancelled:
                    await self._tell(event)
                if self._is_cancelled:
                    return  # what was called may have done it

    async def _tell(self, event: Event) -> None:
        if is_beside(event, self._types):
            _log.warning("%r was not told of some events: %s", self, event.data)
            return
        try:
            await async_settle(self._on_event(event))
        except Exception:
            # It is not ours, and one event that it cannot take is no reason to keep the next from it.
            _log.exception("%r failed with event %s (%s)", self, event.id, event.type)

    def _request(self) -> Request:
        if self._is_cancelled:
            raise InvalidRequest("the subscription was cancelled")
        return _requests.stream_events(
            self._sandbox_id, types=self._types, since=self._reader.last, follow=True
        )

    def _note_answer(self, answer: AsyncAnswer) -> None:
        self._answer = answer
        if self._is_cancelled:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._answer is not None:
            self._answer.hang_up()

    def __repr__(self) -> str:
        about = self._sandbox_id or "all sandboxes"
        return f"<{type(self).__name__} {', '.join(self._types) or '*'} of {about}>"
