# SPDX-License-Identifier: Apache-2.0
"""Answers that are known whole before they are sent, and the media types of all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

JSON_TYPE = "application/json"
OCTETS_TYPE = "application/octet-stream"
TAR_TYPE = "application/x-tar"
JSON_HEADERS = ((b"content-type", b"application/json; charset=utf-8"),)

Answer = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = JSON_HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_reply(send, self.status, self.body, self.headers)


async def send_reply(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = JSON_HEADERS
) -> None:
    """Send a whole answer."""
    sized = [*headers] if status == 204 else [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": sized})
    await send({"type": "http.response.body", "body": body})
