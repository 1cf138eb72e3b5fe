# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from atoll_server.runtimes.cgroups import (
    Group,
    GroupLimits,
    render_limits,
    render_parent_weight,
)

LIMITS = GroupLimits(cpus=1.5, memory_bytes=4 << 30, pids=100)


def test_limits_on_v2() -> None:
    assert render_limits(LIMITS, version=2) == {
        "cpu.max": "150000 100000",
        "memory.max": "4294967296",
        "memory.swap.max": "0",
        "pids.max": "100",
    }


def test_limits_on_v1() -> None:
    assert render_limits(LIMITS, version=1) == {
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "150000",
        "memory.limit_in_bytes": "4294967296",
        "memory.memsw.limit_in_bytes": "4294967296",
        "pids.max": "100",
    }


def test_all_sandboxes_weigh_half_of_what_a_group_does_by_default() -> None:
    assert render_parent_weight(version=2) == {"cpu.weight": "50"}
    assert render_parent_weight(version=1) == {"cpu.shares": "512"}


def test_oom_kills_are_read_from_the_file_of_each_version(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\n")
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")

    assert Group(2, {"unified": tmp_path}).oom_kills() == 3
    assert Group(1, {"cpu": tmp_path, "memory": tmp_path}).oom_kills() == 2


def test_a_group_that_is_gone_has_no_processes_and_no_kills(tmp_path: Path) -> None:
    group = Group(2, {"unified": tmp_path / "gone"})

    assert group.pids() == ()
    assert group.oom_kills() == 0
    group.kill(timeout=1)
    group.remove()
