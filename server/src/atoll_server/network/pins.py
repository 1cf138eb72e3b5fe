# SPDX-License-Identifier: Apache-2.0
"""Which addresses a sandbox was told for which name, for how long that holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from atoll_server.network.addresses import Address

MIN_SECONDS = 60.0
"""A pin holds at least so long: programs resolve first and connect later, whatever the answer's time to live."""
MAX_SECONDS = 3600.0
MAX_PINS = 4096


class Pins:
    """Pairs of name and address with an end each. Where there are too many, the oldest go."""

    def __init__(self, limit: int = MAX_PINS) -> None:
        self._limit = limit
        self._ends: OrderedDict[tuple[str, Address], float] = OrderedDict()
        self._names: dict[Address, set[str]] = {}

    def pin(self, name: str, addresses: Iterable[Address], *, seconds: float, now: float) -> None:
        """Remember vetted addresses of a name; `seconds` is bounded both ways."""
        until = now + min(max(seconds, MIN_SECONDS), MAX_SECONDS)
        for address in addresses:
            self._ends[name, address] = max(until, self._ends.pop((name, address), until))
            self._names.setdefault(address, set()).add(name)
        while len(self._ends) > self._limit:
            self._forget(next(iter(self._ends)))

    def holds(self, name: str, address: Address, *, now: float) -> bool:
        """Whether the address is pinned to this name."""
        end = self._ends.get((name, address))
        if end is not None and end <= now:
            self._forget((name, address))
            return False
        return end is not None

    def names(self, address: Address, *, now: float) -> tuple[str, ...]:
        """The names that the address is pinned to, in order."""
        known = sorted(self._names.get(address, ()))
        return tuple(name for name in known if self.holds(name, address, now=now))

    def __len__(self) -> int:
        return len(self._ends)

    def _forget(self, pair: tuple[str, Address]) -> None:
        name, address = pair
        del self._ends[pair]
        self._names[address].discard(name)
        if not self._names[address]:
            del self._names[address]
