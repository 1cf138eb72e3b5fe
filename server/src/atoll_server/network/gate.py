# SPDX-License-Identifier: Apache-2.0
"""One sandbox as the proxy knows it: its policy, what it was told, what it has open, what it was refused."""

from __future__ import annotations

import ssl
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum

from atoll_server.clock import Clock
from atoll_server.network.addresses import Address, Guard
from atoll_server.network.dns import Vetted, render_upstream, vet
from atoll_server.network.holding import HELD_BYTES, Holding, make_buffer
from atoll_server.network.news import News
from atoll_server.network.pace import Pace
from atoll_server.network.pins import Pins
from atoll_server.network.policy import (
    NO_NETWORK,
    WEB_PORTS,
    Flow,
    Policy,
    Reason,
    Verdict,
    decide,
    decide_flow,
    needs_name,
)
from atoll_server.network.resolver import Resolver
from atoll_server.network.sealed import Sealed
from atoll_server.network.tls import client_context

KEPT_DENIALS = 100
BURST = 0.1
"""For so many seconds' worth of bytes nobody waits."""
FEW = 16
"""With fewer connections than this a sandbox still gets one from the last quarter of a proxy's room."""


class Direction(StrEnum):
    """Which way bytes go, as the sandbox sees it."""

    SENT = "sent"
    RECEIVED = "received"


@dataclass(frozen=True)
class Limits:
    """What one sandbox may take of the proxy. `bytes_per_second` is for either direction; None is no limit.

    `kept_seconds`: how long a connection to a host of a secret is kept on which nothing is asked.
    """

    connections: int = 512
    queries_at_once: int = 32
    queries_per_second: float = 50.0
    queries_burst: float = 200.0
    bytes_per_second: float | None = None
    idle_seconds: float = 3600.0
    kept_seconds: float = 60.0
    held_bytes: int = HELD_BYTES


@dataclass
class Room:
    """How many connections a proxy can have open, for all sandboxes together, and has."""

    most: int = 10_000
    taken: int = 0

    def has_place(self, held: int) -> bool:
        """Whether there is one for a sandbox that has `held` already."""
        return self.taken < (self.most if held < FEW else self.most * 3 // 4)


@dataclass(frozen=True)
class Surroundings:
    """What is the same for every sandbox of a proxy."""

    guard: Guard
    resolver: Resolver
    clock: Clock
    limits: Limits = field(default_factory=Limits)
    room: Room = field(default_factory=Room)
    trust: ssl.SSLContext = field(default_factory=lambda: client_context(""))
    """How hosts that get secrets must prove who they are."""
    buffer: memoryview = field(default_factory=make_buffer)
    """What is read into, whoever's it is."""


@dataclass(frozen=True)
class Denial:
    """Something that was refused, and when, in seconds of the clock."""

    destination: str
    port: int
    verdict: Verdict
    at: float


@dataclass(frozen=True)
class Statistics:
    """What a sandbox did with its network so far."""

    open_connections: int
    connections: int
    queries: int
    bytes_sent: int
    bytes_received: int
    denied: dict[str, int]


class OpenFlow:
    """A connection that was allowed, and may be cut."""

    def __init__(self, flow: Flow, now: float) -> None:
        self.flow = flow
        self.used_at = now
        self.passed = Counter[Direction]()
        self.is_connected = False
        self.is_cut = False
        self._cutters: list[Callable[[], None]] = []

    def on_cut(self, cutter: Callable[[], None]) -> None:
        """Have `cutter` end its side when the flow is cut; at once, if it has been."""
        self._cutters.append(cutter)
        if self.is_cut:
            cutter()

    def cut(self) -> None:
        """End it now. Repeating it is harmless."""
        self.is_cut = True
        for cutter in self._cutters:
            cutter()


class Gate:
    """Decides for one sandbox, and remembers. It opens no sockets."""

    def __init__(self, policy: Policy, around: Surroundings, news: News | None = None) -> None:
        limits = around.limits
        self.news = news or News("", around.clock, lambda: None)
        self.limits = limits
        self.holding = Holding(around.buffer, limits.held_bytes)
        self.denials: deque[Denial] = deque(maxlen=KEPT_DENIALS)
        self.sealed: Sealed | None = None
        """The sandbox's secrets, if it has any."""
        self._policy = policy
        self._around = around
        self._pins = Pins()
        self._flows: set[OpenFlow] = set()
        self._open = 0
        self._counted: Counter[str] = Counter()
        self._denied: Counter[str] = Counter()
        self._queries = Pace(around.clock, limits.queries_per_second, limits.queries_burst)
        rate = limits.bytes_per_second
        self._paces = (
            {} if rate is None else {it: Pace(around.clock, rate, rate * BURST) for it in Direction}
        )

    @property
    def policy(self) -> Policy:
        """What holds now."""
        return self._policy

    def update(self, policy: Policy) -> None:
        """Let another policy hold. What is open and would no longer be allowed is cut."""
        self._policy = policy
        for open_flow in tuple(self._flows):
            if not decide_flow(policy, self._around.guard, open_flow.flow).allowed:
                open_flow.cut()

    def close(self) -> None:
        """Let nothing through any more, and note what is open as ended."""
        # What is only being looked at yet must not be passed on later.
        self._policy = NO_NETWORK
        while self._flows:
            open_flow = self._flows.pop()
            self._note_end(open_flow)
            open_flow.cut()

    def cut_idle(self) -> None:
        """Cut what nothing has passed through for too long."""
        oldest = self._now() - self.limits.idle_seconds
        for open_flow in tuple(self._flows):
            if open_flow.used_at < oldest:
                open_flow.cut()

    def judge_at_once(self, address: Address, port: int) -> Verdict | None:
        """The verdict that needs nothing but an address; None where the connection's name must be seen."""
        verdict = decide_flow(self._policy, self._around.guard, Flow(address, port))
        if verdict.reason is Reason.PROTECTED or not needs_name(self._policy, address, port):
            return verdict
        return None

    async def judge_named(
        self, address: Address, port: int, name: str | None
    ) -> tuple[Flow, Verdict]:
        """The verdict on a connection whose name is known, or known to be missing."""
        flow = Flow(address, port, name, belongs=await self._belongs(address, port, name))
        return flow, self._decide(flow)

    def judge_opaque(self, address: Address, port: int) -> tuple[Flow, Verdict]:
        """The verdict on a connection that is neither TLS nor HTTP: by the name that its address was told for.

        Not at the ports of the web, where a name can be seen, and so must be.
        """
        known = () if port in WEB_PORTS else self._pins.names(address, now=self._now())
        names = [name for name in known if decide(self._policy, name, port).allowed]
        name = names[0] if names else None
        flow = Flow(address, port, name, belongs=name is not None)
        return flow, self._decide(flow)

    async def resolve(self, name: str) -> Vetted | Verdict | None:
        """The addresses of a permitted name, vetted and pinned; see `dns.vet` for the rest."""
        query = render_upstream(name)
        answered = await self._around.resolver.ask(query)
        if answered is None:
            return Verdict(False, Reason.UNREACHABLE, f"no name server answered for {name}")
        vetted = vet(query, answered, self._policy, self._around.guard)
        if isinstance(vetted, Vetted):
            self._pins.pin(name, vetted.addresses, seconds=vetted.seconds, now=self._now())
        return vetted

    @contextmanager
    def admit(self) -> Iterator[bool]:
        """Count a connection while it lasts. Yields whether there was room for it."""
        room = self._around.room
        fits = self._open < self.limits.connections and room.has_place(self._open)
        self._open += fits
        room.taken += fits
        self._counted["connections"] += 1
        try:
            yield fits
        finally:
            self._open -= fits
            room.taken -= fits

    @contextmanager
    def keep(self, flow: Flow) -> Iterator[OpenFlow]:
        """Remember an allowed flow while it is open, so that it can be cut."""
        open_flow = OpenFlow(flow, self._now())
        self._flows.add(open_flow)
        try:
            yield open_flow
        finally:
            if open_flow in self._flows:
                self._flows.remove(open_flow)
                self._note_end(open_flow)

    def count_bytes(self, flow: OpenFlow, direction: Direction, amount: int) -> float:
        """Count bytes that go through; for how many seconds no more should, where they are too many."""
        flow.used_at = self._now()
        flow.passed[direction] += amount
        self._counted[direction] += amount
        pace = self._paces.get(direction)
        return 0.0 if pace is None else pace.take(amount)

    def may_ask_nowait(self) -> bool:
        """Count a question; False where there were too many lately."""
        self._counted["queries"] += 1
        return self._queries.take_nowait()

    def note_denial(self, destination: str, port: int, verdict: Verdict) -> None:
        """Remember what was refused."""
        self._denied[verdict.reason.value] += 1
        self.denials.append(Denial(destination, port, verdict, self._now()))
        self.news.note_denied(destination, port, verdict)

    def statistics(self) -> Statistics:
        """What the sandbox did so far."""
        counted = self._counted
        return Statistics(
            self._open,
            counted["connections"],
            counted["queries"],
            counted[Direction.SENT],
            counted[Direction.RECEIVED],
            dict(self._denied),
        )

    def _note_end(self, open_flow: OpenFlow) -> None:
        flow, passed = open_flow.flow, open_flow.passed
        if open_flow.is_connected:
            sent, received = passed[Direction.SENT], passed[Direction.RECEIVED]
            self.news.note_passed(flow.name or str(flow.address), flow.port, sent, received)

    async def _belongs(self, address: Address, port: int, name: str | None) -> bool:
        if name is None or not decide(self._policy, name, port).allowed:
            return False
        if self._pins.holds(name, address, now=self._now()):
            return True
        # A program may have kept an address for longer than its pin: then the name servers are asked again.
        if not decide(self._policy, address, port).allowed:
            await self.resolve(name)
        return self._pins.holds(name, address, now=self._now())

    def _decide(self, flow: Flow) -> Verdict:
        verdict = decide_flow(self._policy, self._around.guard, flow)
        if verdict.reason is Reason.NAME_MISSING and flow.port not in WEB_PORTS:
            text = f"{verdict.text}, or go to an address that was asked for by an allowed name"
            return replace(verdict, text=text)
        return verdict

    def _now(self) -> float:
        return self._around.clock.monotonic()
