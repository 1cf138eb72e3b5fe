# SPDX-License-Identifier: Apache-2.0
"""uvicorn's connection, with bounds on what a peer may do before it has made a request, and our own 400."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from atoll_server.api.errors import render_error
from atoll_server.engine.errors import InvalidRequest

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0
# What the transport holds before a sender waits: enough that a fast reader never does.
WRITE_BUFFER_BYTES = 1024 * 1024


class BoundedConnection(HttpToolsProtocol):
    """One connection. A request's head must be short and arrive soon."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_size: int | None = 0  # of the head being received; None between heads
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        super().connection_made(cast(asyncio.Transport, _Corked(transport, self.loop)))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_size is not None:
            self._head_size += len(data)
        super().data_received(data)
        if (
            self._head_size is not None
            and self._head_size > HEAD_BYTES
            and not self.transport.is_closing()
        ):
            self.send_400_response(f"the request's head has more than {HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._patience is None:
            self._head_size = 0
            self._await_head()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head_size = None
        self._end_waiting()

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP is answered like any other bad request."""
        self._end_waiting()
        request_id = f"req_{secrets.token_hex(8)}"
        reply = render_error(InvalidRequest(msg.lower().rstrip(".")), request_id)
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json; charset=utf-8\r\n"
            f"x-request-id: {request_id}\r\ncontent-length: {len(reply.body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + reply.body)
        self.transport.close()

    def _await_head(self) -> None:
        self._patience = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _end_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        self.transport.close()


class _Corked:
    """A transport that holds a response's head back until its body follows or the loop comes round.

    uvicorn writes the two apart, which costs a system call and wakes the client twice.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._held = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)
