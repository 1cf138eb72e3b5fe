# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.engine.admission import (
    Admission,
    AdmissionSettings,
    Room,
    find_obstacle,
    read_room,
)
from atoll_server.engine.errors import ResourceExhausted
from atoll_server.engine.model import Limits

USUAL = Limits(cpu=2, memory_mb=4096, disk_mb=10240)
HOST = Room(memory_total_mb=24_000, memory_free_mb=20_000, disk_free_mb=50_000)


def obstacle(
    wanted: Limits = USUAL, promised: int = 0, room: Room = HOST, **settings: float
) -> str | None:
    chosen = AdmissionSettings(**settings)  # type: ignore[arg-type]  # each test gives the right kind
    return find_obstacle(wanted, [USUAL] * promised, room, chosen)


def test_five_hundred_usual_sandboxes_fit_on_a_host_of_24_gb() -> None:
    assert obstacle(promised=499) is None


def test_more_than_the_host_has_is_refused_whatever_is_free() -> None:
    assert obstacle(Limits(2, 24_001, 5120)) == ("it has 24000 MiB of memory, 24001 are asked for")


def test_memory_is_not_promised_more_often_than_allowed() -> None:
    assert obstacle(promised=10, memory_overcommit=2) is None
    assert obstacle(promised=11, memory_overcommit=2) == (
        "its memory is promised 2 times over already"
    )


def test_what_is_really_free_counts_and_not_only_what_is_promised() -> None:
    assert "500 MiB of its memory" in str(obstacle(room=Room(24_000, 500, 50_000)))
    assert "1000 MiB of its disk" in str(obstacle(room=Room(24_000, 20_000, 1000)))


def test_a_number_of_sandboxes_is_never_exceeded() -> None:
    assert obstacle(promised=9, max_sandboxes=10) is None
    assert obstacle(promised=10, max_sandboxes=10) == "it may hold 10 sandboxes, and does"


@given(st.lists(st.sampled_from([2048, 4096, 16384]), max_size=30), st.floats(0.1, 10))
def test_admitting_one_by_one_never_promises_more_than_allowed(
    sizes: list[int], overcommit: float
) -> None:
    settings = AdmissionSettings(memory_overcommit=overcommit)
    promised: list[Limits] = []

    for size in sizes:
        wanted = Limits(2, size, 5120)
        if find_obstacle(wanted, promised, HOST, settings) is None:
            promised.append(wanted)

    assert sum(it.memory_mb for it in promised) <= HOST.memory_total_mb * overcommit


def test_this_host_is_read(tmp_path: Path) -> None:
    room = read_room(tmp_path)

    assert 0 < room.memory_free_mb <= room.memory_total_mb
    assert room.disk_free_mb > 0


def test_a_refusal_is_one_that_may_be_tried_again(tmp_path: Path) -> None:
    admission = Admission(AdmissionSettings(memory_reserve_mb=1 << 30), tmp_path)

    with pytest.raises(ResourceExhausted, match="kept free") as refused:
        admission.check(USUAL, [])

    assert refused.value.retryable
