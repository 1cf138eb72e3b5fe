# SPDX-License-Identifier: Apache-2.0
"""Tells the one server that listens what happens in sandboxes' networks: a message a second at most."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import msgspec

from atoll_server.clock import Clock
from atoll_server.network.news import News, Told

EVERY = 1.0
"""So many seconds lie between two messages; what happens again meanwhile is folded."""
MOST = 64
"""With so many pieces a message is full; what one sandbox has to tell is not cut."""


class Teller:
    """Keeps what nobody listens to, within the bounds of `News`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._listener: socket.socket | None = None
        self._with_news: dict[str, News] = {}
        self._unsent: list[Told] = []
        self._news = asyncio.Event()

    def has_listener(self) -> bool:
        """Whether there is a server. It never says anything here, and its end is its own."""
        if self._listener is None:
            return False
        try:
            is_there = bool(self._listener.recv(1))
        except BlockingIOError:
            is_there = True
        except OSError:
            is_there = False
        if not is_there:
            self.close()
        return is_there

    def make_news(self, sandbox_id: str) -> News:
        """Where a sandbox's news are noted."""
        news = News(sandbox_id, self._clock, lambda: self._note(sandbox_id, news))
        return news

    def listen(self, listener: socket.socket) -> None:
        """Tell whoever is at the other end, and nobody else any more."""
        self.close()
        self._listener = listener
        self._news.set()

    def finish(self, sandbox_id: str, news: News) -> None:
        """Tell at once what is left to tell of a sandbox. Nothing more will be."""
        self._with_news.pop(sandbox_id, None)
        if self._listener is not None and news.is_pending:
            # Where the server takes nothing this is lost: it has forgotten the sandbox by the time it does.
            with contextlib.suppress(OSError):
                self._listener.send(msgspec.json.encode(news.take_all()))

    async def run(self) -> None:
        """Go on telling."""
        while True:
            await self._news.wait()
            self._news.clear()
            self._tell()
            await self._clock.sleep(EVERY)
            if self._listener is not None and (self._unsent or self._with_news):
                self._news.set()

    def close(self) -> None:
        """Tell nobody any more."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _note(self, sandbox_id: str, news: News) -> None:
        self._with_news.setdefault(sandbox_id, news)
        self._news.set()

    def _tell(self) -> None:
        if self._listener is None:
            return
        self._unsent = self._unsent or self._take()
        if not self._unsent:
            return
        try:
            self._listener.send(msgspec.json.encode(self._unsent))
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._unsent = []

    def _take(self) -> list[Told]:
        """A message's worth. Who has more to tell is last in the row the next time."""
        taken: list[Told] = []
        for sandbox_id, news in tuple(self._with_news.items()):
            if len(taken) >= MOST:
                break
            taken += news.take()
            del self._with_news[sandbox_id]
            if news.is_pending:
                self._with_news[sandbox_id] = news
        return taken
