# SPDX-License-Identifier: Apache-2.0
"""A connection to a port inside over a WebSocket: binary messages are its bytes, an empty one ends its direction."""

from __future__ import annotations

import asyncio

from starlette.types import Send

from atoll_server.api.call import Call
from atoll_server.api.errors import ClientGone
from atoll_server.api.native.port_wire import parse_port
from atoll_server.engine.ports import PortStream

CLOSED_NORMALLY, NOT_TAKEN = 1000, 1003
END = b""


async def dial(call: Call, send: Send) -> None:
    """Pass bytes until both directions have ended or the client has gone."""
    port = parse_port(call.path_parameter("port"))
    ports = call.engine.ports(call.sandbox_id)
    await call.receive()  # the wish to connect, which every WebSocket begins with
    stream = await ports.dial(port)
    try:
        await send({"type": "websocket.accept"})
        code = await _converse(stream, call, send)
        await send({"type": "websocket.close", "code": code})
    finally:
        stream.close()


async def _converse(stream: PortStream, call: Call, send: Send) -> int:
    """Both ways until each has ended; the code to close with."""
    has_ended = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(_listen(stream, call, has_ended))
            await _show(stream, send)
            await has_ended.wait()
            listening.cancel()
    except BaseExceptionGroup as raised:
        gone, others = raised.split(ClientGone)
        if gone is not None:
            raise ClientGone from None
        if others is None or not isinstance(others.exceptions[0], _NotTaken):
            raise
        return NOT_TAKEN
    return CLOSED_NORMALLY


async def _show(stream: PortStream, send: Send) -> None:
    while data := await stream.receive():
        await send({"type": "websocket.send", "bytes": data})
    await send({"type": "websocket.send", "bytes": END})


async def _listen(stream: PortStream, call: Call, has_ended: asyncio.Event) -> None:
    """What the client sends, and, once that has ended, whether it is still there."""
    while True:
        message = await call.receive()
        if message["type"] == "websocket.disconnect":
            raise ClientGone
        data = message.get("bytes")
        if data is None or has_ended.is_set():
            raise _NotTaken
        if data == END:
            stream.end_sending()
            has_ended.set()
            continue
        # What the program no longer takes goes nowhere; what it still says is passed on all the same.
        await stream.send(data)


class _NotTaken(Exception):
    """The client said what has no meaning here: text, or anything behind its end."""
