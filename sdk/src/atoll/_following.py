# SPDX-License-Identifier: Apache-2.0
"""What following a stream over many connections takes, whatever it tells of: a reader, and patience. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

from .errors import ConnectFailed, ConnectionLost, Error, Timeout

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
"""How long a reader tries to come back before it gives up."""

Event_co = TypeVar("Event_co", covariant=True)


class StreamReader(Protocol[Event_co]):
    """Makes events of the answers to one request after another. It knows how far it is, and so what to ask for next."""

    @property
    def is_over(self) -> bool:
        """Whether the last event was told: there is nothing to come back for."""

    @property
    def has_news(self) -> bool:
        """Whether this connection brought more than its beginning."""

    def reconnect(self) -> None:
        """Forgets the connection that ended."""

    def feed(self, chunk: bytes) -> Iterator[Event_co]:
        """The events that are known once `chunk` has come. Raises what the server says went wrong, behind those that
        came before it.
        """


class Patience:
    """How long to wait before another attempt, until so long was waited in vain that there is no point in more."""

    def __init__(self) -> None:
        self._attempts = 0
        self._waited = 0.0

    def reset(self) -> None:
        """Something came: whatever goes wrong next is a new trouble."""
        self._attempts = 0
        self._waited = 0.0

    def plan(self, error: Error, chance: float) -> float | None:
        """Seconds to wait after `error`, or None to give up. `chance` in 0..1 spreads many readers out."""
        if not _may_pass(error) or self._waited >= PATIENCE_SECONDS:
            return None
        longest = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**self._attempts)
        delay = min(longest * (0.5 + chance / 2), PATIENCE_SECONDS - self._waited)
        self._attempts += 1
        self._waited += delay
        return float(delay)


def _may_pass(error: Error) -> bool:
    """Whether reading again may succeed. Reading changes nothing, so that it may always be tried."""
    return isinstance(error, ConnectFailed | ConnectionLost | Timeout) or error.retryable
