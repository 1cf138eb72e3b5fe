# SPDX-License-Identifier: Apache-2.0
"""What a server is told of a sandbox's network without having asked: what was refused, and what has passed.

A sandbox can make either happen as often as it likes. So what happens again before it was told is folded into one
piece with a count, only so many destinations are told apart, and only so many pieces are told in a second. Nothing is
dropped: what is not told apart is told in sums.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Annotated, Generic, TypeVar

import msgspec

from atoll_server.clock import Clock
from atoll_server.network.pace import Pace
from atoll_server.network.policy import Verdict

PENDING = 16
"""How many destinations are told apart while they wait to be told, of either kind."""
AT_ONCE = 32.0
PER_SECOND = 2.0
MAX_HOST = 253
MAX_TEXT = 512
MAX_REASON = 64
MAX_NEWS = 256
"""No message has more pieces."""

_TOGETHER = f"more than {PENDING} destinations within a short time; these are told together"

Count = Annotated[int, msgspec.Meta(ge=0)]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Denied(msgspec.Struct, tag="denied"):
    """So many connections or questions were refused; without a host, they were for several."""

    sandbox_id: str
    host: str | None
    port: int | None
    reason: str | None
    text: str
    count: Count = 0


class Passed(msgspec.Struct, tag="passed"):
    """So many connections have ended, after so many bytes; without a host, they were to several."""

    sandbox_id: str
    host: str | None
    port: int | None
    connections: Count = 0
    bytes_sent: Count = 0
    bytes_received: Count = 0


Told = Denied | Passed


class News:
    """Of one sandbox. `on_news` is called when there is something to tell; it must not wait."""

    def __init__(self, sandbox_id: str, clock: Clock, on_news: Callable[[], None]) -> None:
        self._sandbox_id = sandbox_id
        self._on_news = on_news
        self._denied: _Folded[tuple[str, int, str], Denied] = _Folded(clock)
        self._passed: _Folded[tuple[str, int], Passed] = _Folded(clock)

    @property
    def is_pending(self) -> bool:
        """Whether something is not told yet."""
        return bool(self._denied.pending or self._passed.pending)

    def note_denied(self, host: str, port: int, verdict: Verdict) -> None:
        """Something was refused."""
        reason, text = verdict.reason.value, make_readable(verdict.text, MAX_TEXT)
        apart = Denied(self._sandbox_id, make_readable(host, MAX_HOST), port, reason, text)
        together = Denied(self._sandbox_id, None, None, None, _TOGETHER)
        self._denied.find((host, port, reason), apart, together).count += 1
        self._on_news()

    def note_passed(self, host: str, port: int, sent: int, received: int) -> None:
        """A connection has ended."""
        apart = Passed(self._sandbox_id, make_readable(host, MAX_HOST), port)
        together = Passed(self._sandbox_id, None, None)
        found = self._passed.find((host, port), apart, together)
        found.connections += 1
        found.bytes_sent += sent
        found.bytes_received += received
        self._on_news()

    def take(self) -> Iterator[Told]:
        """What may be told now."""
        yield from self._denied.take()
        yield from self._passed.take()

    def take_all(self) -> list[Told]:
        """All that is not told yet, of a sandbox of which nothing more can come."""
        return [*self._denied.pending.values(), *self._passed.pending.values()]


def make_readable(text: str, most: int) -> str:
    """Printable ASCII of at most so many characters, whatever a program inside has put into it."""
    return "".join(c if c.isascii() and c.isprintable() else ascii(c)[1:-1] for c in text[:most])[
        :most
    ]


def read_news(message: bytes) -> list[Told]:
    """A message of the proxy's, which hostile bytes may have taken over. Raises `msgspec.MsgspecError`."""
    return [_bound(piece) for piece in msgspec.json.decode(message, type=list[Told])[:MAX_NEWS]]


def _bound(piece: Told) -> Told:
    if piece.host is not None:
        piece.host = make_readable(piece.host, MAX_HOST)
    if isinstance(piece, Denied):
        piece.text = make_readable(piece.text, MAX_TEXT)
        piece.reason = None if piece.reason is None else make_readable(piece.reason, MAX_REASON)
    return piece


class _Folded(Generic[K, V]):
    """What waits to be told, the oldest first, and how fast that may be."""

    def __init__(self, clock: Clock) -> None:
        self.pending: dict[K | None, V] = {}
        self._pace = Pace(clock, PER_SECOND, AT_ONCE)

    def find(self, key: K, apart: V, together: V) -> V:
        """What to add to: what waits already under this key, or `apart`, or for want of room `together`."""
        if key in self.pending or len(self.pending) < PENDING:
            return self.pending.setdefault(key, apart)
        return self.pending.setdefault(None, together)

    def take(self) -> Iterator[V]:
        while self.pending and self._pace.take_nowait():
            yield self.pending.pop(next(iter(self.pending)))
