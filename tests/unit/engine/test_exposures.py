# SPDX-License-Identifier: Apache-2.0
"""Exposed ports: named, kept, changed, closed and forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_server.clock import ManualClock
from atoll_server.engine import errors
from atoll_server.engine.exposures import PORTS_LIMIT, Exposures
from atoll_server.engine.model import SandboxId
from atoll_server.engine.store import Store
from atoll_server.engine.store_sqlite import SqliteStore

pytestmark = pytest.mark.anyio

ONE, OTHER = SandboxId("sb_1"), SandboxId("sb_2")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = SqliteStore(tmp_path / "atoll.db")
    yield store
    store.close()


@pytest.fixture
def exposures(store: Store) -> Exposures:
    return Exposures(store, ManualClock())


async def test_exposed_port_is_found_by_its_name_alone(exposures: Exposures) -> None:
    exposed = await exposures.expose(ONE, 3000)

    assert exposures.find(3000, exposed.label) == exposed
    assert exposures.find(3001, exposed.label) is None
    assert exposures.find(3000, exposed.label[:-1]) is None
    assert exposures.find(3000, "") is None
    assert exposed.name == f"3000-{exposed.label}"


async def test_every_exposed_port_has_a_label_of_its_own(exposures: Exposures) -> None:
    labels = {
        (await exposures.expose(sandbox, port)).label
        for sandbox in (ONE, OTHER)
        for port in range(1024, 1074)
    }

    assert len(labels) == 100
    assert all(
        len(label) == 20 and label.isalnum() and label.islower() or label.isdigit()
        for label in labels
    )


async def test_exposing_again_changes_nothing_but_who_may_use_it(exposures: Exposures) -> None:
    first = await exposures.expose(ONE, 3000)
    private = await exposures.expose(ONE, 3000, is_private=True)

    assert await exposures.expose(ONE, 3000) == private
    assert (private.label, private.is_private) == (first.label, True)
    assert await exposures.expose(ONE, 3000, is_private=False) == first
    assert exposures.find(3000, first.label) == first


async def test_closed_port_is_exposed_under_another_name(exposures: Exposures) -> None:
    first = await exposures.expose(ONE, 3000)
    await exposures.close(ONE, 3000)
    with pytest.raises(errors.PortNotExposed):
        await exposures.close(ONE, 3000)
    second = await exposures.expose(ONE, 3000)

    assert first.label != second.label
    assert exposures.find(3000, first.label) is None


@pytest.mark.parametrize("port", [-1, 0, 80, 1023, 65_536])
async def test_port_outside_the_range_is_refused(exposures: Exposures, port: int) -> None:
    with pytest.raises(errors.InvalidPort, match="from 1024 to 65535"):
        await exposures.expose(ONE, port)

    assert exposures.of(ONE) == ()


async def test_number_of_exposed_ports_is_limited(exposures: Exposures) -> None:
    for number in range(PORTS_LIMIT):
        await exposures.expose(ONE, 2000 + number)

    with pytest.raises(errors.ResourceExhausted):
        await exposures.expose(ONE, 5000)
    await exposures.expose(ONE, 2000)
    await exposures.expose(OTHER, 5000)


async def test_exposed_ports_are_taken_up_again_but_for_those_of_ended_sandboxes(
    exposures: Exposures, store: Store
) -> None:
    kept = [await exposures.expose(ONE, 3001, is_private=True), await exposures.expose(ONE, 4000)]
    lost = await exposures.expose(OTHER, 3000)
    again = Exposures(store, ManualClock())

    await again.load(lambda sandbox: sandbox == ONE)

    assert list(again.of(ONE)) == kept
    assert again.find(4000, kept[1].label) == kept[1]
    assert again.find(3000, lost.label) is None
    assert set(store.ports()) == set(kept)


async def test_sandbox_that_has_ended_takes_its_ports_along(
    exposures: Exposures, store: Store
) -> None:
    gone = await exposures.expose(ONE, 3000)
    stays = await exposures.expose(OTHER, 3000)

    await exposures.forget(ONE)
    await exposures.forget(SandboxId("sb_unknown"))

    assert exposures.find(3000, gone.label) is None
    assert store.ports() == (stays,)
