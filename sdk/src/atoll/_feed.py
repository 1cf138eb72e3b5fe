# SPDX-License-Identifier: Apache-2.0
"""Events, over as many connections as it takes. No I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from . import _wire
from ._events import LineSplitter, parse_error_event
from .errors import InvalidRequest, ProtocolError
from .models import Event

LATEST = "latest"
"""In place of an event's id: only what happens from now on."""
LOST = "events.lost"
EVERYTHING = "*"

Types = str | Sequence[str]


class EventReader:
    """Makes events of the answers to one or more requests, each of them once, by its id."""

    def __init__(self, since: str | None) -> None:
        self.last = since
        """The id of the last event that was told: the next connection is to begin behind it."""
        self.is_over = False
        self.has_news = False
        self._lines = LineSplitter()

    def reconnect(self) -> None:
        """Forgets the connection that ended."""
        self._lines = LineSplitter()
        self.has_news = False

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that are known once `chunk` has come. Raises what the server says went wrong."""
        for line in self._lines.feed(chunk):
            yield from self._take(_wire.parse(line.encode()))

    def _take(self, said: Any) -> Iterator[Event]:
        kind = said.get("type") if isinstance(said, dict) else None
        if kind == "error":
            raise parse_error_event(said)
        if kind == "begin":
            # From now on it is known which moment "latest" was.
            self.last = _place(said)
            return
        self.has_news = True
        if kind == "end":
            self.is_over, self.last = True, _place(said)
        elif isinstance(kind, str) and "." in kind:
            event = _wire.from_plain(Event, said)
            self.last = event.id
            yield dataclasses.replace(event, data=_wire.snake_members(event.data))
        elif kind != "heartbeat":
            raise ProtocolError(f"an object of the type {kind!r:.80} in a stream of events")


def check_types(types: Types | None) -> tuple[str, ...]:
    """Which types are asked for; none are all of them."""
    words: tuple[object, ...] = (types,) if isinstance(types, str) else tuple(types or ())
    names = tuple(word for word in words if isinstance(word, str) and word)
    for word in words:
        if word not in names:
            raise InvalidRequest(
                f'the type of an event is text, such as "exec.completed", not {word!r:.80}'
            )
    return () if EVERYTHING in names else names


def check_sandbox_types(types: Types) -> tuple[str, ...]:
    """The same where all are of one sandbox: `terminated` is short for `sandbox.terminated`."""
    return tuple(word if "." in word else f"sandbox.{word}" for word in check_types(types))


def is_beside(event: Event, types: Sequence[str]) -> bool:
    """Whether it is word of lost events, which everybody hears, to somebody who asked for other types."""
    return event.type == LOST and bool(types) and LOST not in types


def _place(said: dict[str, Any]) -> str:
    place = said.get("id")
    if not isinstance(place, str):
        raise ProtocolError(f"a stream of events that is at {place!r:.80}")
    return place
