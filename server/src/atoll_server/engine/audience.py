# SPDX-License-Identifier: Apache-2.0
"""Who follows which process of a sandbox, and who shares a connection to the agent with whom.

One alone has a connection of its own. Where several follow a process they gather on the connection that is furthest,
each as soon as it stands where that one still has what comes next; until then it has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Self

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentError, AgentFailure
from atoll_server.agent.process import AttachedProcess
from atoll_server.engine.broadcast import KEPT_ALONE_BYTES, WINDOW_BYTES, Broadcast
from atoll_server.engine.model import Exit, Output

Attach = Callable[[int | None], AttachedProcess]


class Audiences:
    """Those of one sandbox. Of a process that nobody follows there is nothing here."""

    def __init__(self, agent: AgentClient) -> None:
        self._agent = agent
        self._audiences: dict[int, _Audience] = {}

    def __contains__(self, process: int) -> bool:
        return process in self._audiences

    def follow(self, process: int, *, since: int | None) -> Follower:
        """What a process writes from a position on, inside `async with`; None is from now on."""
        return Follower(self, process, since)

    def attach(self, process: int, since: int | None) -> AttachedProcess:
        return self._agent.attach(process, since=since)

    def find(self, process: int, since: int | None) -> Broadcast | None:
        """Where one can begin at once, without a word to the agent."""
        audience = self._audiences.get(process)
        return None if audience is None or since is None else audience.find(since)

    def enter(self, process: int) -> _Audience:
        audience = self._audiences.setdefault(process, _Audience())
        audience.resize(1)
        return audience

    def leave(self, process: int) -> None:
        audience = self._audiences[process]
        audience.resize(-1)
        if not audience.size:
            del self._audiences[process]


class _Audience:
    """The followers of one process. They gather on `_main`, whose connection has come furthest."""

    def __init__(self) -> None:
        self.size = 0
        self._main: Broadcast | None = None

    def resize(self, change: int) -> None:
        self.size += change
        self._keep()

    def find(self, position: int) -> Broadcast | None:
        main = self._main
        return main if main and main.is_joinable and main.can_join(position) else None

    def settle(self, follower: Follower) -> None:
        """Have a follower go on where the others are, if it is near enough."""
        main, own = self._main, follower.broadcast
        if main is own:
            return
        if main is None or not main.is_joinable or own.end > main.end:
            if main is not None:
                main.keep(0)
            self._main = own
            self._keep()
        elif main.can_join(follower.position):
            follower.move(main)

    def _keep(self) -> None:
        if self._main is not None:
            self._main.keep(WINDOW_BYTES if self.size > 1 else KEPT_ALONE_BYTES)


class Follower:
    """One who follows a process. Used as `AttachedProcess` is; leaving changes nothing for the others.

    Entered, it says where the output begins; `position` then goes along with what is taken.
    """

    stdout: int
    stderr: int
    dropped: int
    broadcast: Broadcast

    def __init__(self, audiences: Audiences, process: int, since: int | None) -> None:
        self.position = 0
        self.can_part = True
        self._audiences = audiences
        self._process = process
        self._since = since
        self._attach: Attach = partial(audiences.attach, process)
        self._failure: AgentFailure | None = None
        self._has_ended = False

    async def __aenter__(self) -> Self:
        found = self._audiences.find(self._process, self._since)
        if found is None or self._since is None:
            attached = await self._attach(self._since).__aenter__()
            self.position, self.dropped = attached.position, attached.dropped
            self.broadcast = Broadcast(attached, self)
        else:
            self.position, self.dropped = self._since, 0
            self.broadcast = found
            found.join(self)
        self.stdout, self.stderr = self.broadcast.offsets_at(self.position)
        self._audience = self._audiences.enter(self._process)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.broadcast.leave(self)
        self._audiences.leave(self._process)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output | Exit:
        while not self._has_ended:
            if self._failure is not None:
                raise self._failure
            self._audience.settle(self)
            event = self.broadcast.take(self)
            if event is None:
                await self.broadcast.advance()
                continue
            self._has_ended = isinstance(event, Exit)
            return event
        raise StopAsyncIteration

    def move(self, broadcast: Broadcast) -> None:
        """Go on there: it has all that comes next."""
        broadcast.join(self)
        self.broadcast.leave(self)
        self.broadcast, self.can_part = broadcast, True

    async def part(self) -> bool:
        """Go on alone. Another calls this, while this one stands still; it may go on or leave meanwhile.

        The agent may have dropped what this one has yet to take, because the shared connection has taken it.
        """
        position, shared = self.position, self.broadcast
        try:
            attached = await self._attach(position).__aenter__()
        except AgentFailure:
            return False
        is_there = shared.has(self)
        if is_there and attached.position == position:
            self.move(Broadcast(attached, self))
            return True
        attached.close()
        return not is_there

    def let_go(self) -> None:
        """What the agent says to who takes nothing for too long."""
        self._failure = AgentError("slow", 0, "the output was not taken for too long")
        self.broadcast.leave(self)
