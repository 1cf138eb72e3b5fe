# SPDX-License-Identifier: Apache-2.0
"""Connections to programs. One that a whole answer has come over waits a moment for the next request of the same kind.

A kept connection serves the same preview under the same token and nobody else, and only requests that may be repeated:
the program may hang up in the very moment in which one is sent. A program that takes one connection at a time is not
locked by those that are kept: where an answer lets itself be waited for, they are closed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

from atoll_server.engine.model import ExposedPort, SandboxId
from atoll_server.engine.ports import PortStream
from atoll_server.proxy.door import Admitted

KEPT_SECONDS: Final = 1.0
KEPT_LIMIT: Final = 256
"""In all. Each holds two descriptors of the server."""
KEPT_OF_ONE: Final = 16
PATIENCE_SECONDS: Final = 0.02


class Ports(Protocol):
    """What is needed of a sandbox's ports."""

    async def dial(self, port: int, early: bytes = b"") -> PortStream: ...


class Sandboxes(Protocol):
    """What is needed of the engine."""

    def ports(self, sandbox_id: SandboxId) -> Ports: ...


@dataclass(frozen=True)
class _Owner:
    """Whose requests a connection may serve. A label is never used again."""

    label: str
    token: str | None


@dataclass(frozen=True)
class _Kept:
    owner: _Owner
    end: asyncio.TimerHandle


class Line:
    """A connection to a program, for one request. `is_used` says that it has served others before."""

    def __init__(
        self, lines: Lines, admitted: Admitted, stream: PortStream, *, is_used: bool
    ) -> None:
        self.stream = stream
        self.is_used = is_used
        self._lines = lines
        self._admitted = admitted
        self._is_awaited = False
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(PATIENCE_SECONDS, self._lose_patience)

    async def renew(self, asked: bytes) -> None:
        """Another one in its place, new, and asked the same."""
        self.stream.close()
        self.stream = await self._lines.dial(self._admitted.exposed, asked)
        self.is_used = False

    def has_answer(self) -> None:
        """The program has begun to answer."""
        self._patience.cancel()
        if self._is_awaited:
            self._is_awaited = False
            self._lines.calm(self._admitted.exposed)

    def end(self, *, may_serve_again: bool) -> None:
        """The request is over. The connection is kept, or closed."""
        self.has_answer()
        if may_serve_again:
            self._lines.keep(self._admitted, self.stream)
        else:
            self.stream.close()

    def _lose_patience(self) -> None:
        self._is_awaited = True
        self._lines.hurry(self._admitted.exposed)


class Lines:
    """All of them."""

    def __init__(self, sandboxes: Sandboxes, *, kept_seconds: float = KEPT_SECONDS) -> None:
        self._sandboxes = sandboxes
        self._kept_seconds = kept_seconds
        self._kept: OrderedDict[PortStream, _Kept] = OrderedDict()
        self._by_owner: dict[_Owner, list[PortStream]] = {}
        self._awaited: Counter[str] = Counter()

    async def open(self, admitted: Admitted, asked: bytes, *, may_repeat: bool) -> Line:
        """A line on which `asked` has been sent; one that was kept, where that can be asked twice.

        Raises what `Ports.dial` does.
        """
        # Whether there is such a sandbox, and it runs, is asked every time.
        self._sandboxes.ports(admitted.exposed.sandbox_id)
        stream = self._take(_owner(admitted)) if may_repeat else None
        if stream is None:
            stream = await self.dial(admitted.exposed, asked)
            return Line(self, admitted, stream, is_used=False)
        try:
            await stream.send(asked)
        except BaseException:
            stream.close()
            raise
        return Line(self, admitted, stream, is_used=True)

    async def dial(self, exposed: ExposedPort, asked: bytes) -> PortStream:
        """A new connection. The question travels with the wish to connect, which saves waiting for one answer."""
        return await self._sandboxes.ports(exposed.sandbox_id).dial(exposed.port, asked)

    def keep(self, admitted: Admitted, stream: PortStream) -> None:
        """Keep one for a moment, if there is room and nobody waits for the program."""
        owner = _owner(admitted)
        count = len(self._by_owner.get(owner, ()))
        if count >= KEPT_OF_ONE or owner.label in self._awaited or not stream.is_quiet():
            stream.close()
            return
        if len(self._kept) >= KEPT_LIMIT:
            self._close(next(iter(self._kept)))
        end = asyncio.get_running_loop().call_later(self._kept_seconds, self._close, stream)
        self._kept[stream] = _Kept(owner, end)
        self._by_owner.setdefault(owner, []).append(stream)

    def hurry(self, exposed: ExposedPort) -> None:
        """Somebody waits for this program: it may be busy with a connection on which nothing comes."""
        self._awaited[exposed.label] += 1
        owners = [owner for owner in self._by_owner if owner.label == exposed.label]
        for stream in [stream for owner in owners for stream in self._by_owner[owner]]:
            self._close(stream)

    def calm(self, exposed: ExposedPort) -> None:
        """He has his answer."""
        self._awaited[exposed.label] -= 1
        if not self._awaited[exposed.label]:
            del self._awaited[exposed.label]

    def close(self) -> None:
        """Close all that are kept."""
        for stream in tuple(self._kept):
            self._close(stream)

    def _take(self, owner: _Owner) -> PortStream | None:
        """The one used last, whose program is the likeliest to be there still."""
        while of_one := self._by_owner.get(owner):
            stream = of_one[-1]
            self._forget(stream)
            # Whatever came meanwhile is the answer to nothing that was asked.
            if stream.is_quiet():
                return stream
            stream.close()
        return None

    def _close(self, stream: PortStream) -> None:
        self._forget(stream)
        stream.close()

    def _forget(self, stream: PortStream) -> None:
        kept = self._kept.pop(stream)
        kept.end.cancel()
        of_one = self._by_owner[kept.owner]
        of_one.remove(stream)
        if not of_one:
            del self._by_owner[kept.owner]


def _owner(admitted: Admitted) -> _Owner:
    return _Owner(admitted.exposed.label, admitted.token)
