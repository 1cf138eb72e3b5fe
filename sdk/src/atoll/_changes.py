# SPDX-License-Identifier: Apache-2.0
"""The changes beneath a watched directory, over as many connections as it takes. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import _wire
from ._events import LineSplitter, parse_error_event
from .errors import ProtocolError
from .models import FileChange


class ChangeReader:
    """Makes changes of the answers to one or more requests, each of them once, by its number."""

    def __init__(self, since: int) -> None:
        self.last = since
        """The number of the last change that was told: the next connection is to begin behind it."""
        self.ended: str | None = None
        """Why the watch tells no more, once the stream is over."""
        self.is_over = False
        self.has_news = False
        self._lines = LineSplitter()

    def reconnect(self) -> None:
        """Forgets the connection that ended."""
        self._lines = LineSplitter()
        self.has_news = False

    def feed(self, chunk: bytes) -> Iterator[FileChange]:
        """The changes that are known once `chunk` has come. Raises what the server says went wrong."""
        for line in self._lines.feed(chunk):
            yield from self._take(_wire.parse(line.encode()))
            self.has_news = True

    def _take(self, said: Any) -> Iterator[FileChange]:
        kind = said.get("type") if isinstance(said, dict) else None
        if kind == "change":
            change = _wire.from_plain(FileChange, said)
            if change.number > self.last:
                self.last = change.number
                yield change
        elif kind == "end":
            self.is_over, self.ended = True, _reason(said)
        elif kind == "error":
            raise parse_error_event(said)
        elif kind != "heartbeat":
            raise ProtocolError(f"an object of the type {kind!r:.80} in a stream of changes")


def _reason(said: dict[str, Any]) -> str | None:
    ended = said.get("ended")
    if not isinstance(ended, str | None):
        raise ProtocolError(f"a watch that ended with {ended!r:.80}")
    return ended
