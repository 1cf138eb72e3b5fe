# SPDX-License-Identifier: Apache-2.0
"""uvicorn's WebSocket connection, with our bounds on a peer that is silent or takes nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from atoll_server.api.stalls import StallWatch

MESSAGE_BYTES = 1024 * 1024
PING_SECONDS = 5.0
PONG_SECONDS = 10.0


class BoundedSocket(WebSocketsSansIOProtocol):
    """One WebSocket. A peer of which nothing has come since a ping is let go; one whose messages wait for us is not,
    because its pong waits behind them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The library would log headers, and keys are among them.
        self.conn.logger = logging.getLogger("atoll_server.websocket")
        self.conn.debug = False
        self._has_heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._stall = StallWatch(self.transport, self.loop)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stall.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stall.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._has_heard = True
        super().data_received(data)

    def send_keepalive_ping(self) -> None:
        self._has_heard = False
        super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        if self._has_heard or self.read_paused:
            self._has_heard = False
            self.pong_timer = self.loop.call_later(PONG_SECONDS, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # closing would wait for somebody to take what is left
