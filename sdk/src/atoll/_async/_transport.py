# SPDX-License-Identifier: Apache-2.0
"""Sends requests over one pool of connections; retries where that is safe; raises the SDK's errors.

It starts the private server where no other is known. It does not know what requests mean.
"""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import httpcore2

from .. import _local
from .._answers import parse_error, parse_retry_after, plan_resend
from .._colour import async_closing, async_run, async_sleep
from .._config import Endpoint, Settings
from .._local import Lease, PrivateServer
from .._requests import Header, Request
from .._route import TRANSPORT_ERRORS, Route, translate_error
from .._wire import Record, decode
from ..errors import Error, InvalidRequest

if TYPE_CHECKING:
    from ._feed import AsyncSubscription
    from ._socket import AsyncSocket

MAX_CONNECTIONS = 1000
MAX_IDLE_CONNECTIONS = 32
"""Every request looks at each that is idle. With the 500 that a crowd left, one took six times the processor time."""
KEEP_ALIVE_SECONDS = 30.0
"""Less than what common proxies allow an idle connection; one that was closed all the same is noticed before use."""
MAX_ERROR_BYTES = 1024 * 1024

AsyncBody = Callable[[], AsyncIterator[bytes]]
"""Makes a request's body, anew for each time it is sent."""


class AsyncAnswer:
    """An answer whose body has yet to be read, once."""

    def __init__(self, response: httpcore2.Response, endpoint: Endpoint, wait: float) -> None:
        self.status: int = response.status
        self.headers: list[Header] = response.headers
        self._response = response
        self._endpoint = endpoint
        self._wait = wait

    async def aread(self) -> bytes:
        try:
            return await self._response.aread()
        except TRANSPORT_ERRORS as error:
            raise translate_error(error, self._endpoint, self._wait) from error

    async def aiter_bytes(self) -> AsyncGenerator[bytes, None]:
        async with async_closing(self._response.aiter_stream()) as chunks:
            try:
                async for chunk in chunks:
                    if chunk:
                        yield chunk
            except TRANSPORT_ERRORS as error:
                raise translate_error(error, self._endpoint, self._wait) from error

    def hang_up(self) -> None:
        """Ends the connection under whoever reads from it, in whichever thread, who then meets `ConnectionLost`."""
        stream = self._response.extensions.get("network_stream")
        connection = None if stream is None else stream.get_extra_info("socket")
        if connection is not None:
            # Closing it would not wake a thread that waits for it; and it may be closed already.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    async def aclose(self) -> None:
        await self._response.aclose()


class AsyncTransport:
    """One server, one key, one pool."""

    def __init__(self, settings: Settings, server: PrivateServer | None = None) -> None:
        self.endpoint = settings.endpoint
        self.api_key = settings.api_key
        self._settings = settings
        self._server = server if server is not None else _local.shared
        self._lease: Lease | None = None
        self._pool: httpcore2.AsyncConnectionPool | None = None
        self._route: Route | None = None
        self._closed = False
        self.subscriptions: set[AsyncSubscription] = set()
        """What runs beside, to be ended before the connections are."""

    @property
    def max_retries(self) -> int:
        """How often in a row to try again what may be tried again."""
        return self._settings.max_retries

    async def send(self, request: Request, body: AsyncBody | None = None) -> bytes:
        """The body of the answer, which was 2xx."""
        answer = await self._send_as_often_as_allowed(request, body)
        try:
            return await answer.aread()
        finally:
            await answer.aclose()

    async def ask(
        self, record_type: type[Record], request: Request, body: AsyncBody | None = None
    ) -> Record:
        """The answer, which was 2xx, as a record. Raises `ProtocolError` where it is none."""
        return decode(record_type, await self.send(request, body))

    @asynccontextmanager
    async def open(
        self, request: Request, body: AsyncBody | None = None
    ) -> AsyncIterator[AsyncAnswer]:
        """The answer, which is 2xx, to be read as it comes. Leaving early closes the connection."""
        answer = await self._send_as_often_as_allowed(request, body)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def dial(self, request: Request) -> AsyncSocket:
        """A WebSocket, opened with `request` as its handshake."""
        from ._socket import open_socket

        _, route = await self._connect()
        return await open_socket(route, request.target)

    async def aclose(self) -> None:
        """Ends subscriptions, closes connections and gives the private server back. May be repeated."""
        for subscription in tuple(self.subscriptions):
            await subscription.cancel()
        self._closed = True
        pool, self._pool = self._pool, None
        lease, self._lease = self._lease, None
        try:
            if pool is not None:
                await pool.aclose()
        finally:
            if lease is not None:
                await async_run(self._server.release, lease)

    async def _send_as_often_as_allowed(
        self, request: Request, body: AsyncBody | None
    ) -> AsyncAnswer:
        sent = 0
        while True:
            sent += 1
            retry_after = None
            try:
                answer = await self._send_once(request, body)
                if 200 <= answer.status < 300:
                    return answer
                retry_after = parse_retry_after(answer.headers)
                raise await _read_error(answer)
            except Error as error:
                delay = plan_resend(
                    error,
                    request.resend,
                    sent_before=sent,
                    max_retries=self._settings.max_retries,
                    retry_after=retry_after,
                    chance=random.random(),
                )
                if delay is None:
                    raise
            await async_sleep(delay)

    async def _send_once(self, request: Request, body: AsyncBody | None) -> AsyncAnswer:
        pool, route = self._pool, self._route
        if pool is None or route is None:
            pool, route = await self._connect()
        wait = max(request.wait or 0.0, self._settings.timeout_ms / 1000)
        outgoing = route.render(request, request.body if body is None else body(), wait)
        try:
            response = await pool.handle_async_request(outgoing)
        except TRANSPORT_ERRORS as error:
            raise translate_error(error, route.endpoint, wait) from error
        return AsyncAnswer(response, route.endpoint, wait)

    async def _connect(self) -> tuple[httpcore2.AsyncConnectionPool, Route]:
        if self.endpoint is None:
            await self._lease_server()
        if self._closed or self.endpoint is None or self.api_key is None:
            raise InvalidRequest("the client is closed")
        if self._pool is None or self._route is None:  # else somebody else was quicker
            self._route = Route(self.endpoint, self.api_key)
            self._pool = httpcore2.AsyncConnectionPool(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_IDLE_CONNECTIONS,
                keepalive_expiry=KEEP_ALIVE_SECONDS,
                uds=self.endpoint.socket,
            )
        return self._pool, self._route

    async def _lease_server(self) -> None:
        if self._closed:
            return
        lease = await async_run(self._server.acquire)
        if self._lease is not None or self._closed:
            await async_run(self._server.release, lease)
            return
        self._lease = lease
        self.endpoint, self.api_key = lease.endpoint, lease.api_key


async def _read_error(answer: AsyncAnswer) -> Error:
    """What an answer outside 2xx says. Its connection is given back or closed."""
    body = b""
    try:
        async with aclosing(answer.aiter_bytes()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_ERROR_BYTES:
                    break
    finally:
        await answer.aclose()
    return parse_error(answer.status, answer.headers, body)
