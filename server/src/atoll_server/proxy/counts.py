# SPDX-License-Identifier: Apache-2.0
"""What is counted of previews, all together: for Prometheus, and with nothing in it that names one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.types import Message, Receive, Send


class Counts:
    """Kept in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "atoll_preview_requests",
            "Requests for previews, by the class of what was answered",
            ("status",),
            registry=registry,
        )
        self._open = Gauge(
            "atoll_preview_open", "Requests and WebSockets that pass", ("kind",), registry=registry
        )
        bytes_passed = Counter(
            "atoll_preview_bytes",
            "Bytes of bodies and WebSockets that passed, from visitors and to them",
            ("direction",),
            registry=registry,
        )
        self._bytes_in = bytes_passed.labels("in")
        self._bytes_out = bytes_passed.labels("out")

    @contextmanager
    def opened(self, kind: str) -> Iterator[None]:
        """One more of `request` or `websocket`, for as long as the block runs."""
        there = self._open.labels(kind)
        there.inc()
        try:
            yield
        finally:
            there.dec()

    def note_answer(self, status: int) -> None:
        self._answers.labels(f"{status // 100}xx").inc()

    def note_in(self, size: int) -> None:
        self._bytes_in.inc(size)

    def note_out(self, size: int) -> None:
        self._bytes_out.inc(size)

    def receiving(self, receive: Receive) -> Receive:
        """The same, with what comes counted."""

        async def counted() -> Message:
            message = await receive()
            self.note_in(len(message.get("body", b"")))
            return message

        return counted

    def sending(self, send: Send) -> Send:
        """The same, with what goes counted."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.note_answer(message["status"])
            else:
                self.note_out(len(message["body"]))
            await send(message)

        return counted
