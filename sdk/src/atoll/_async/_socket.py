# SPDX-License-Identifier: Apache-2.0
"""A WebSocket whose errors are the SDK's. It does not know what its messages mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._colour import async_dial, async_receive
from .._dial import SOCKET_ERRORS, plan_dial, translate_dial_error, translate_socket_error
from .._route import Route

if TYPE_CHECKING:
    from .._colour import AsyncConnection
    from .._config import Endpoint


async def open_socket(route: Route, target: str) -> AsyncSocket:
    """Opens one."""
    dial = plan_dial(route, target)
    try:
        return AsyncSocket(await async_dial(dial), route.endpoint)
    except SOCKET_ERRORS as error:
        raise translate_dial_error(error, route.endpoint) from error


class AsyncSocket:
    """An open socket. Reading and writing may go on at the same time."""

    def __init__(self, connection: AsyncConnection, endpoint: Endpoint) -> None:
        self._connection = connection
        self._endpoint = endpoint

    async def receive(self, seconds: float | None = None) -> str | bytes:
        """The next message. Raises `TimeoutError` when none comes for so long, `ConnectionLost` when none will."""
        try:
            return await async_receive(self._connection, seconds)
        except TimeoutError:
            raise
        except SOCKET_ERRORS as error:
            raise translate_socket_error(error, self._endpoint) from error

    async def send(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except SOCKET_ERRORS as error:
            raise translate_socket_error(error, self._endpoint) from error

    async def aclose(self) -> None:
        """Says goodbye, and waits for the answer, but not for long. May be repeated."""
        await self._connection.close()
