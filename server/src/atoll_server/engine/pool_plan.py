# SPDX-License-Identifier: Apache-2.0
"""Which sandboxes to build ahead and which of those to end. Decides only; `pool.py` does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from atoll_server.engine.model import OPEN_FILES, Limits, RuntimeKind, SandboxId, SandboxSpec
from atoll_server.network.policy import NO_NETWORK, NOTHING_YET, Default, Policy

USUAL_WORKDIR: Final = "/workspace"
# Half of a shape's demand is forgotten after so many seconds without more of it.
DEMAND_HALF_LIFE: Final = 300.0
# Less demand than this is none; a single request is that long ago after half an hour.
LEAST_DEMAND: Final = 1 / 64
# Of what is ready to run on each processor, so much is a busy host. There is no event for its end.
BUSY_LOAD: Final = 2.0
LOOK_AGAIN: Final = 0.05


@dataclass(frozen=True)
class Shape:
    """What cannot be changed once a sandbox stands. All sandboxes of one shape can take each other's place."""

    image: str
    runtime: RuntimeKind
    memory_mb: int
    disk_mb: int
    open_files: int = OPEN_FILES
    network: bool = False

    @classmethod
    def of(cls, spec: SandboxSpec, runtime: RuntimeKind) -> Shape:
        limits = spec.limits
        network = spec.network.default is not Default.NONE
        return cls(
            spec.image, runtime, limits.memory_mb, limits.disk_mb, limits.open_files, network
        )

    def spec(self, network: Policy = NOTHING_YET) -> SandboxSpec:
        """What to build. What can be given late is nothing yet, but for what most will want: a directory, a policy."""
        limits = Limits(1, self.memory_mb, self.disk_mb, open_files=self.open_files)
        policy = network if self.network else NO_NETWORK
        return SandboxSpec(
            self.image, limits, {}, USUAL_WORKDIR, 0.0, 0.0, {}, self.runtime, policy
        )


@dataclass(frozen=True)
class PoolSettings:
    """`size`: idle sandboxes at most, of all shapes. `min_idle`: of each shape in demand, as far as `size` goes.

    `max_idle`: seconds after which an idle one is replaced. `refill`: how many are built at once. `network`: what holds
    for those that have one, so that who wants just that need not have it changed.
    """

    size: int = 0
    min_idle: int = 1
    max_idle: float = 3600.0
    refill: int = 2
    network: Policy = NOTHING_YET


@dataclass(frozen=True)
class Stock:
    """What there is of one shape. `idle`: ids and when each was built, oldest first. `not_before`: when to build."""

    shape: Shape
    idle: tuple[tuple[SandboxId, float], ...] = ()
    building: int = 0
    demand: float = 0.0
    not_before: float = 0.0


@dataclass(frozen=True)
class Load:
    """What else the host does: sandboxes being built for clients, and programs ready to run on each processor."""

    creating: int = 0
    busy: float = 0.0


@dataclass(frozen=True)
class PoolPlan:
    """`start`: build one of each. `retire`: end these. `look_at`: when to plan anew without any news; None if never."""

    start: tuple[Shape, ...] = ()
    retire: tuple[SandboxId, ...] = ()
    look_at: float | None = None


def plan_pool(settings: PoolSettings, stocks: Sequence[Stock], load: Load, now: float) -> PoolPlan:
    """What to build and what to end. Ending never waits; building gives way to what the host does for clients."""
    targets = plan_targets(settings, stocks)
    fresh = {it.shape: _fresh(settings, it, now) for it in stocks}
    missing = {
        it.shape: max(0, targets[it.shape] - len(fresh[it.shape]) - it.building) for it in stocks
    }
    too_old = [i for it in stocks for i, _ in it.idle[: len(it.idle) - len(fresh[it.shape])]]
    excess = sum(len(fresh[it.shape]) + it.building + missing[it.shape] for it in stocks)
    superfluous = _superfluous(stocks, targets, fresh, excess - settings.size)
    wanted = [it.shape for it in stocks if now >= it.not_before for _ in range(missing[it.shape])]
    held = sum(len(it.idle) + it.building for it in stocks) - len(too_old) - len(superfluous)
    room = max(0, min(_room(settings, stocks, load), settings.size - held))
    start = _in_turn(wanted)[:room]
    return PoolPlan(
        start=tuple(start),
        retire=(*too_old, *superfluous),
        look_at=min(
            [
                *(it.not_before for it in stocks if missing[it.shape] and now < it.not_before),
                *(one[0][1] + settings.max_idle for one in fresh.values() if one),
                *([now + DEMAND_HALF_LIFE] if any(fresh.values()) else []),
                *([now + LOOK_AGAIN] if _gives_way(settings, stocks, wanted, start) else []),
            ],
            default=None,
        ),
    )


def _fresh(settings: PoolSettings, stock: Stock, now: float) -> tuple[tuple[SandboxId, float], ...]:
    return tuple((i, at) for i, at in stock.idle if now - at < settings.max_idle)


def _superfluous(
    stocks: Sequence[Stock],
    targets: Mapping[Shape, int],
    fresh: Mapping[Shape, Sequence[tuple[SandboxId, float]]],
    excess: int,
) -> list[SandboxId]:
    """All that nobody asks for; of what is beyond its target only so many as stand in another's place, oldest first."""
    unwanted: list[SandboxId] = []
    surplus: list[tuple[float, SandboxId]] = []
    for stock in stocks:
        idle = fresh[stock.shape]
        beyond = idle[: max(0, len(idle) - targets[stock.shape])]
        if stock.demand < LEAST_DEMAND:
            unwanted += [sandbox_id for sandbox_id, _ in beyond]
        else:
            surplus += [(at, sandbox_id) for sandbox_id, at in beyond]
    in_the_way = max(0, excess - len(unwanted))
    return [*unwanted, *(sandbox_id for _, sandbox_id in sorted(surplus)[:in_the_way])]


def plan_targets(settings: PoolSettings, stocks: Sequence[Stock]) -> Mapping[Shape, int]:
    """How many of each shape should be idle: `min_idle` each, those in most demand first; the rest by demand."""
    targets = dict.fromkeys((stock.shape for stock in stocks), 0)
    in_demand = sorted(
        (stock for stock in stocks if stock.demand >= LEAST_DEMAND), key=lambda it: -it.demand
    )
    left = settings.size
    for stock in in_demand:
        targets[stock.shape] = min(settings.min_idle, left)
        left -= targets[stock.shape]
    total = sum(stock.demand for stock in in_demand)
    for stock in in_demand:
        share = min(left, -(-settings.size * stock.demand // total) - targets[stock.shape])
        if share > 0:
            targets[stock.shape] += int(share)
            left -= int(share)
    return targets


def _room(settings: PoolSettings, stocks: Sequence[Stock], load: Load) -> int:
    """How many may be built now besides those that are: none while clients wait for theirs, one on a busy host."""
    if load.creating:
        return 0
    at_once = settings.refill if load.busy < BUSY_LOAD else 1
    return max(0, at_once - sum(stock.building for stock in stocks))


def _gives_way(
    settings: PoolSettings, stocks: Sequence[Stock], wanted: Sequence[Shape], start: Sequence[Shape]
) -> bool:
    """Whether more would be built on an idle host. The end of a building is news, the end of a load is not."""
    at_once = sum(stock.building for stock in stocks) + len(start)
    return len(start) < len(wanted) and at_once < settings.refill


def _in_turn(shapes: Iterable[Shape]) -> list[Shape]:
    """One of each shape before a second of any."""
    rounds: dict[Shape, int] = {}
    keyed: list[tuple[int, Shape]] = []
    for shape in shapes:
        rounds[shape] = rounds.get(shape, 0) + 1
        keyed.append((rounds[shape], shape))
    return [shape for _, shape in sorted(keyed, key=lambda pair: pair[0])]
