# SPDX-License-Identifier: Apache-2.0
"""uvicorn's connection, with bounds on what a peer may do before it has made a request, and our own 400."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from atoll_server.api.corked import Corked
from atoll_server.api.errors import render_error
from atoll_server.api.stalls import StallWatch
from atoll_server.api.trailers import TRAILERS, Trailers
from atoll_server.api.upgrades import HandedOver, Upgrades, open_streams
from atoll_server.engine.errors import InvalidRequest

# Looked at once for each read of the socket, and from the second on where a request follows another: a head may have as
# much more as one or two reads bring, which has a bound of its own.
HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0
# How much of a refused body is thrown away, and for how long, so that its sender gets to read the answer.
LINGER_BYTES = 512 * 1024 * 1024
LINGER_SECONDS = 10.0
# What the transport holds before a sender waits: enough that a fast reader never does.
WRITE_BUFFER_BYTES = 1024 * 1024


class BoundedConnection(HttpToolsProtocol):
    """One connection. A request's head must be short and arrive soon, and so must what is left of a body that was not
    wanted. Where the answer ends the connection, the client gets to read it, however much it is still sending.
    """

    def __init__(self, *args: Any, upgrades: Upgrades | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._upgrades = upgrades
        self._head_size: int | None = 0  # of the head being received; None between heads
        self._receiving = False  # between the first byte of a request and its last
        self._lingered: int | None = None  # bytes thrown away since the answer, once we linger
        self._patience: asyncio.TimerHandle | None = None
        self._hosts = 0  # how many the head being received names
        self._is_in_head = True
        self._trailers = Trailers()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        corked = Corked(transport, self.loop, self._linger)
        super().connection_made(cast(asyncio.Transport, corked))
        self._stall = StallWatch(transport, self.loop)
        self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stall.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_waiting()
        self._stall.end()
        self._receiving = False
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingered is not None:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self._give_up()
            return
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
        self._receiving = True
        self._hosts = 0
        self._is_in_head = True
        self._trailers = Trailers()
        cast(Corked, self.transport).trailers = self._trailers
        self.scope["extensions"] = cast(Any, {TRAILERS: self._trailers})
        if self._patience is None:
            self._head_size = 0
            self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_head:
            self._trailers.add(name, value)
            return
        super().on_header(name, value)
        self._hosts += name.lower() == b"host"

    def on_headers_complete(self) -> None:
        # A proxy before us may have gone by another one than we would. It is the parser that answers 400 to this.
        if self._hosts > 1 or (self._hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError("a request names one host")
        self._is_in_head = False
        super().on_headers_complete()
        self._head_size = None
        self._end_waiting()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._receiving = False
        self._end_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        unwanted = self._receiving and self.cycle.response_complete
        if unwanted and self._patience is None and not self.transport.is_closing():
            self._await_head()  # of the next request, which comes behind the rest of this one

    def handle_websocket_upgrade(self) -> None:
        upgrades = self._upgrades
        if upgrades is None or not upgrades.takes_upgrade(self.headers, self.url, self.server):
            super().handle_websocket_upgrade()
            return
        cycle = cast(RequestResponseCycle | None, self.cycle)
        if cycle is not None and not cycle.response_complete:
            self.transport.abort()  # who asks for more before an answer has ended gets them mixed up
            return
        self._hand_over(upgrades)

    def _hand_over(self, upgrades: Upgrades) -> None:
        """From here on the connection is another's, of which the server still knows when it stops."""
        reader, writer = open_streams(cast(Corked, self.transport).bare(), self.loop)
        serving = self.loop.create_task(
            upgrades.serve_upgrade(reader, writer, self.headers, self.url, self.client)
        )
        handle = HandedOver(serving)
        self.connections.discard(self)
        self.connections.add(cast(Any, handle))
        self.tasks.add(serving)
        serving.add_done_callback(self.tasks.discard)
        connections = self.connections
        serving.add_done_callback(lambda _: connections.discard(cast(Any, handle)))
        # Nothing of what this was is kept meanwhile: not by whoever serves it, nor in circles with its parser.
        del self.parser

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP is answered like any other bad request."""
        self._end_waiting()
        self._receiving = True  # whatever it is
        request_id = f"req_{secrets.token_hex(8)}"
        reply = render_error(InvalidRequest(msg.lower().rstrip(".")), request_id)
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json; charset=utf-8\r\n"
            f"x-request-id: {request_id}\r\ncontent-length: {len(reply.body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + reply.body)
        self.transport.close()

    def _linger(self) -> bool:
        """Asked when the connection is about to be closed: whether to wait for the client to do it.

        Closing while bytes are unread makes the kernel reset the connection, and the client may lose the answer.
        """
        if self._lingered is not None or not self._receiving:
            return False
        self._lingered = 0
        self.flow.resume_reading()
        cycle = cast(RequestResponseCycle | None, self.cycle)  # None before the first request
        if cycle is not None and not cycle.response_complete:  # what it reads ends here
            cycle.disconnected = True
            cycle.message_event.set()
        self._end_waiting()
        self._patience = self.loop.call_later(LINGER_SECONDS, self._give_up)
        return True

    def _await_head(self) -> None:
        self._patience = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _end_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        self._receiving = False
        self.transport.close()
