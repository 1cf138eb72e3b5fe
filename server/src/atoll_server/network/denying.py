# SPDX-License-Identifier: Apache-2.0
"""How a connection is refused: at once, and where it speaks a protocol that we know, in its own words."""

from __future__ import annotations

import asyncio
import contextlib

from atoll_server.network.policy import Reason, Verdict
from atoll_server.network.side import Side

UNRECOGNIZED_NAME = 112
ACCESS_DENIED = 49

_LINGER_SECONDS = 2.0
_LINGER_BYTES = 256 * 1024
_STATUS = {Reason.MALFORMED: "400 Bad Request", Reason.UNREACHABLE: "502 Bad Gateway"}
_BY_NAME = (Reason.NOT_LISTED, Reason.NAME_MISSING, Reason.NAME_FOREIGN)


async def refuse_tls(side: Side, verdict: Verdict) -> None:
    """Refuse a TLS client with an alert."""
    alert = UNRECOGNIZED_NAME if verdict.reason in _BY_NAME else ACCESS_DENIED
    await _say_and_close(side, b"\x15\x03\x03\x00\x02\x02" + bytes([alert]))


async def refuse_http(side: Side, verdict: Verdict) -> None:
    """Refuse a request with a status, and the reason for a person or a model to read."""
    await _say_and_close(side, render_refusal(verdict))


def render_refusal(verdict: Verdict) -> bytes:
    """The whole HTTP response."""
    body = f"refused by the sandbox's network policy: {verdict.text}\n".encode()
    head = (
        f"HTTP/1.1 {_STATUS.get(verdict.reason, '403 Forbidden')}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"X-Atoll-Denied: {verdict.reason.value}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


async def _say_and_close(side: Side, said: bytes) -> None:
    """Say it, and take what still comes for a moment: what is unread would make of the end a reset, and of the words
    nothing.
    """
    side.write(said)
    side.write_end()
    left = _LINGER_BYTES
    # Whoever goes on for longer was told what there is to tell.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0 and (piece := await side.read()):
                left -= len(piece)
