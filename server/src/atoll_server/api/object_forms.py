# SPDX-License-Identifier: Apache-2.0
"""A stream of JSON objects that one can resume behind any of them: one a line, or as server-sent events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from atoll_server.api.forms import NDJSON_TYPE, SSE_TYPE, encode
from atoll_server.engine.errors import InvalidRequest

LATEST = 2**63 - 1
"""The last place that a stream can have."""

Object = Mapping[str, Any]


class Objects(Protocol):
    """What is said of a stream. Every object has a `type`."""

    end_type: str
    """The type of the last one."""

    @property
    def place(self) -> int | str:
        """Where to resume behind the object that was made last."""

    def begin(self, events: Any) -> Iterable[Object]:
        """What is said first, of the events as they were entered."""

    def event(self, event: Any) -> Iterable[Object]: ...

    def finish(self) -> Iterable[Object]:
        """What was held back, at the end or after a silence."""


def parse_resume(header: str, since: int) -> int:
    """Where to go on: `Last-Event-ID` is newer than the address that an event source connects to again."""
    if not header:
        return since
    if not (header.isascii() and header.isdigit() and len(header) < 20 and int(header) <= LATEST):
        raise InvalidRequest("`Last-Event-ID` must be the `id` of an event")
    return int(header)


class ObjectLines:
    """One JSON object a line."""

    media_type = NDJSON_TYPE

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def begin(self, events: object) -> bytes:
        return b"".join(map(_line, self._objects.begin(events)))

    def event(self, event: object) -> Iterator[bytes]:
        return map(_line, self._objects.event(event))

    def heartbeat(self) -> bytes:
        return self._rest() + b'{"type":"heartbeat"}\n'

    def end(self, result: Mapping[str, Any]) -> bytes:
        return self._rest() + _line({"type": self._objects.end_type, **result})

    def error(self, members: Mapping[str, Any]) -> bytes:
        return self._rest() + _line({"type": "error", "error": members})

    def _rest(self) -> bytes:
        return b"".join(map(_line, self._objects.finish()))


class ObjectEvents:
    """Server-sent events whose data are those objects, named by their type. Their ids say where to resume."""

    media_type = SSE_TYPE

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def begin(self, events: object) -> bytes:
        return b"".join(map(self._event, self._objects.begin(events)))

    def event(self, event: object) -> Iterator[bytes]:
        return map(self._event, self._objects.event(event))

    def heartbeat(self) -> bytes:
        return self._rest() + b": heartbeat\n\n"

    def end(self, result: Mapping[str, Any]) -> bytes:
        return self._rest() + self._event({"type": self._objects.end_type, **result})

    def error(self, members: Mapping[str, Any]) -> bytes:
        return self._rest() + self._event({"type": "error", "error": members})

    def _rest(self) -> bytes:
        return b"".join(map(self._event, self._objects.finish()))

    def _event(self, value: Object) -> bytes:
        place = str(self._objects.place).encode("ascii")
        lines = (value["type"].encode("ascii"), place, encode(value))
        return b"event: %b\nid: %b\ndata: %b\n\n" % lines


def _line(value: Object) -> bytes:
    return encode(value) + b"\n"
