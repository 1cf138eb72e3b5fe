# SPDX-License-Identifier: Apache-2.0
"""A client's end of a WebSocket, without a socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import Message

from tests.unit.api.memory import KEY, Client, make_scope


class Socket:
    """A client's end of a WebSocket."""

    def __init__(self, client: Client, path: str, key: str | None = KEY) -> None:
        self.sent: list[Message] = []
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._changed = asyncio.Event()
        scope = {**make_scope("GET", path, {}, key), "type": "websocket", "subprotocols": []}
        self.say({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(client.app(scope, self._inbox.get, self._send))

    def say(self, message: Message) -> None:
        self._inbox.put_nowait(message)

    def text(self, **fields: object) -> None:
        self.say({"type": "websocket.receive", "text": json.dumps(fields), "bytes": None})

    def type(self, data: bytes) -> None:
        self.say({"type": "websocket.receive", "bytes": data})

    def leave(self) -> None:
        self.say({"type": "websocket.disconnect", "code": 1001})

    async def wait_for(self, kind: str) -> Message:
        async with asyncio.timeout(5):
            while not (found := [m for m in self.sent if m["type"] == kind]):
                self._changed.clear()
                await self._changed.wait()
        return found[0]

    @property
    def texts(self) -> list[dict[str, Any]]:
        return [json.loads(m["text"]) for m in self.sent if m.get("text")]

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        self._changed.set()
