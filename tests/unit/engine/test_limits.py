# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from atoll_server.engine.errors import InvalidConfig
from atoll_server.engine.limits import LimitSettings, choose_limits
from atoll_server.engine.model import Limits

USUAL = LimitSettings()
WIDE = LimitSettings(
    cpu_min=0.1,
    cpu_max=16,
    memory_min_mb=128,
    disk_max_mb=100_000,
    pids_max=500,
    open_files_max=2000,
)


def choose(settings: LimitSettings, **changes: float | None) -> Limits:
    values = {"cpu": 2, "memory_mb": 4096, "disk_mb": 10240, "pids": None, "open_files": None}
    return choose_limits(settings, **{**values, **changes})  # type: ignore[arg-type]  # numbers


@pytest.mark.parametrize("cpu", [2, 4, 8, 2.0])
def test_unless_set_otherwise_there_are_the_usual_numbers_of_processors(cpu: float) -> None:
    assert choose(USUAL, cpu=cpu).cpu == cpu


@pytest.mark.parametrize("cpu", [1, 3, 2.5, 16, 0.5])
def test_unless_set_otherwise_there_are_no_others(cpu: float) -> None:
    with pytest.raises(InvalidConfig, match="one of 2, 4, 8; got"):
        choose(USUAL, cpu=cpu)


@pytest.mark.parametrize("cpu", [0.1, 0.5, 3, 15.99, 16])
def test_an_operator_may_allow_fractions(cpu: float) -> None:
    assert choose(WIDE, cpu=cpu).cpu == cpu


def test_one_bound_of_processors_leaves_the_other_as_it_is_usually() -> None:
    assert choose(LimitSettings(cpu_min=0.5), cpu=0.5).cpu == 0.5
    with pytest.raises(InvalidConfig, match="must be 0.5 to 8 on this server; got `9`"):
        choose(LimitSettings(cpu_min=0.5), cpu=9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cpu": 0.09}, "`resources.cpu` must be 0.1 to 16"),
        ({"memory_mb": 127}, "`resources.memoryMb` must be 128 to 16384"),
        ({"memory_mb": 16385}, "`resources.memoryMb` must be 128 to 16384"),
        ({"disk_mb": 100_001}, "`resources.diskMb` must be 5120 to 100000"),
        ({"pids": 501}, "`resources.pids` must be at most 500"),
        ({"open_files": 2001}, "`resources.openFiles` must be at most 2000"),
    ],
)
def test_what_is_beyond_a_bound_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        choose(WIDE, **changes)


def test_what_is_not_said_is_the_most() -> None:
    assert choose(WIDE) == Limits(2, 4096, 10240, pids=500, open_files=2000)
    assert choose(WIDE, pids=33, open_files=256).pids == 33
