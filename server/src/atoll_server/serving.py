# SPDX-License-Identifier: Apache-2.0
"""uvicorn, as it serves here: its settings, its signals, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from atoll_server.api.connection import BoundedConnection
from atoll_server.api.socket import MESSAGE_BYTES, PING_SECONDS, PONG_SECONDS, BoundedSocket
from atoll_server.api.upgrades import Upgrades
from atoll_server.listeners import BACKLOG
from atoll_server.proxy.front import Front

logger = logging.getLogger(__name__)

EXIT_INTERRUPTED = 130
STDIN = 0
GRACE_SECONDS = 3
KEEP_ALIVE_SECONDS = 120


async def listen(
    front: Front,
    listeners: list[socket.socket],
    announce: Callable[[], None],
    *,
    is_private: bool,
) -> None:
    """Answer requests until told to stop. A private server is told by the end of its stdin, too."""
    config = make_config(front, upgrades=front, grace=0 if is_private else GRACE_SECONDS)
    server = _Server(config, announce, is_private=is_private)
    with _watching_stdin(server.stop) if is_private else contextlib.nullcontext():
        await server.serve(sockets=[listener.dup() for listener in listeners])


@contextlib.contextmanager
def _watching_stdin(on_close: Callable[[], None]) -> Iterator[None]:
    """Private servers live as long as whoever holds the other end of their stdin."""

    def read() -> None:
        if not os.read(STDIN, 4096):
            on_close()

    loop = asyncio.get_running_loop()
    loop.add_reader(STDIN, read)
    try:
        yield
    finally:
        loop.remove_reader(STDIN)


def make_config(
    app: ASGIApp, *, upgrades: Upgrades | None = None, grace: int = GRACE_SECONDS
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=cast(type[BoundedConnection], functools.partial(BoundedConnection, upgrades=upgrades)),
        ws=BoundedSocket,
        ws_max_size=MESSAGE_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=grace,
    )


class _Server(uvicorn.Server):
    """uvicorn, which says when it is ready and whose signals leave the rest of us time to end."""

    def __init__(
        self, config: uvicorn.Config, announce: Callable[[], None], *, is_private: bool
    ) -> None:
        super().__init__(config)
        self._announce = announce
        self._is_private = is_private

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_signal, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._on_signal, signal.SIGINT)
        # Left in place until the process ends: what follows must not die of an impatient second signal's default.
        yield

    def stop(self) -> None:
        """Answer no more requests; what runs has some seconds to end."""
        self.should_exit = True

    def _on_signal(self, number: signal.Signals) -> None:
        if number is signal.SIGINT and self._is_private:
            return  # Ctrl-C is for the client in the foreground; when that ends, our stdin does
        if number is signal.SIGINT and self.should_exit:
            logger.warning("stopping at once; what is left is cleaned up by the next start")
            os._exit(EXIT_INTERRUPTED)
        logger.info("stopping", extra={"signal": number.name})
        self.stop()
