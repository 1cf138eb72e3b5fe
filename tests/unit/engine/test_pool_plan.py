# SPDX-License-Identifier: Apache-2.0
"""What the pool decides, for any stock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atoll_server.engine.model import RuntimeKind, SandboxId
from atoll_server.engine.pool_plan import (
    BUSY_LOAD,
    LEAST_DEMAND,
    Load,
    PoolSettings,
    Shape,
    Stock,
    plan_pool,
    plan_targets,
)

NOW = 1000.0
IDLE_HOST = Load()
SHAPES = [Shape(f"image-{n}", RuntimeKind.CONTAINER, 4096, 10240) for n in range(4)]
SETTINGS = st.builds(
    PoolSettings,
    size=st.integers(0, 8),
    min_idle=st.integers(0, 3),
    max_idle=st.just(100.0),
    refill=st.integers(1, 4),
)
LOADS = st.builds(Load, creating=st.integers(0, 3), busy=st.floats(0, 4))


def stock(
    number: int = 0, *, ages: tuple[float, ...] = (), demand: float = 1.0, **others: float
) -> Stock:
    """One shape's; `ages` oldest first."""
    idle = tuple((SandboxId(f"sb_{number}_{i}"), NOW - age) for i, age in enumerate(ages))
    building, not_before = int(others.get("building", 0)), others.get("not_before", 0.0)
    return Stock(SHAPES[number], idle, building, demand, not_before)


@st.composite
def stocks(draw: st.DrawFn) -> list[Stock]:
    return [
        stock(
            number,
            ages=tuple(sorted(draw(st.lists(st.floats(0, 150), max_size=6)), reverse=True)),
            demand=draw(st.sampled_from([0.0, LEAST_DEMAND, 0.5, 1.0, 3.0, 40.0])),
            building=draw(st.integers(0, 2)),
            not_before=draw(st.sampled_from([0.0, NOW + 5])),
        )
        for number in range(draw(st.integers(0, 4)))
    ]


def test_an_empty_pool_is_filled_as_fast_as_it_may() -> None:
    plan = plan_pool(PoolSettings(size=4, refill=2), [stock()], IDLE_HOST, NOW)

    assert plan.start == (SHAPES[0], SHAPES[0])
    assert plan.retire == ()


def test_a_full_pool_waits_for_its_oldest_to_be_too_old() -> None:
    plan = plan_pool(PoolSettings(size=2, max_idle=100), [stock(ages=(90, 10))], IDLE_HOST, NOW)

    assert (plan.start, plan.retire, plan.look_at) == ((), (), NOW + 10)


def test_one_that_is_too_old_is_ended_and_replaced() -> None:
    plan = plan_pool(PoolSettings(size=2, max_idle=100), [stock(ages=(100, 10))], IDLE_HOST, NOW)

    assert plan.start == (SHAPES[0],)
    assert plan.retire == (SandboxId("sb_0_0"),)


def test_what_nobody_asks_for_any_more_is_ended() -> None:
    plan = plan_pool(PoolSettings(size=4), [stock(ages=(1, 1), demand=0)], IDLE_HOST, NOW)

    assert len(plan.retire) == 2


def test_a_pool_that_is_made_smaller_ends_its_oldest() -> None:
    plan = plan_pool(PoolSettings(size=1), [stock(ages=(3, 2, 1))], IDLE_HOST, NOW)

    assert plan.retire == (SandboxId("sb_0_0"), SandboxId("sb_0_1"))


def test_a_surplus_stays_as_long_as_it_is_in_nobodys_way() -> None:
    """Or two shapes that are asked for in turn would push each other out with each request."""
    held = [stock(0, ages=(3, 2, 1), demand=2.0), stock(1, demand=2.0, building=1)]

    plan = plan_pool(PoolSettings(size=4), held, IDLE_HOST, NOW)

    assert len(plan.retire) == 1
    assert plan.start == (SHAPES[1],)


def test_nothing_is_built_beside_what_clients_wait_for() -> None:
    busy = plan_pool(PoolSettings(size=4), [stock()], Load(creating=1), NOW)

    assert busy.start == ()
    assert busy.look_at is not None
    assert busy.look_at > NOW


def test_a_busy_host_builds_one_at_a_time() -> None:
    load = Load(busy=BUSY_LOAD)

    assert plan_pool(PoolSettings(size=4), [stock()], load, NOW).start == (SHAPES[0],)
    assert plan_pool(PoolSettings(size=4), [stock(building=1)], load, NOW).start == ()
    assert plan_pool(PoolSettings(size=4), [stock(ages=(1,))], load, NOW).start == (SHAPES[0],)


def test_after_a_failure_nothing_is_built_until_its_pause_is_over() -> None:
    plan = plan_pool(PoolSettings(size=1), [stock(not_before=NOW + 7)], IDLE_HOST, NOW)

    assert (plan.start, plan.look_at) == ((), NOW + 7)


def test_every_shape_in_demand_gets_its_least_before_any_gets_more() -> None:
    targets = plan_targets(
        PoolSettings(size=4), [stock(0, demand=100), stock(1, demand=1), stock(2, demand=0)]
    )

    assert targets == {SHAPES[0]: 3, SHAPES[1]: 1, SHAPES[2]: 0}


@given(SETTINGS, stocks())
def test_targets_never_exceed_the_size_and_use_all_of_it_where_there_is_demand(
    settings: PoolSettings, held: list[Stock]
) -> None:
    targets = plan_targets(settings, held)

    in_demand = [it for it in held if it.demand >= LEAST_DEMAND]
    assert sum(targets.values()) == (settings.size if in_demand else 0)
    assert all(targets[it.shape] == 0 for it in held if it not in in_demand)


@given(SETTINGS, stocks(), LOADS)
def test_a_plan_keeps_every_bound(settings: PoolSettings, held: list[Stock], load: Load) -> None:
    plan = plan_pool(settings, held, load, NOW)

    idle = {sandbox_id: at for it in held for sandbox_id, at in it.idle}
    building = sum(it.building for it in held)
    left = len(idle) - len(plan.retire) + building
    assert set(plan.retire) <= idle.keys()
    assert len(set(plan.retire)) == len(plan.retire)
    assert all(i in plan.retire for i, at in idle.items() if NOW - at >= settings.max_idle)
    assert len(plan.start) + building <= max(settings.refill, building, 1)
    assert not plan.start or left + len(plan.start) <= settings.size
    assert left <= settings.size + building
    assert not (load.creating and plan.start)
    assert plan.look_at is None or plan.look_at > NOW


@given(SETTINGS, stocks())
def test_on_an_idle_host_a_pool_settles_at_its_targets(
    settings: PoolSettings, held: list[Stock]
) -> None:
    held = [Stock(it.shape, it.idle, 0, it.demand, 0.0) for it in held]
    numbers = iter(range(1000))
    for _ in range(100):
        plan = plan_pool(settings, held, IDLE_HOST, NOW)
        if not plan.start and not plan.retire:
            break
        held = [
            Stock(
                it.shape,
                (
                    *((i, at) for i, at in it.idle if i not in plan.retire),
                    *(
                        (SandboxId(f"sb_new_{next(numbers)}"), NOW)
                        for s in plan.start
                        if s == it.shape
                    ),
                ),
                demand=it.demand,
            )
            for it in held
        ]
    else:
        raise AssertionError("it never settles")

    targets = plan_targets(settings, held)
    assert {it.shape: len(it.idle) for it in held} == dict(targets)
