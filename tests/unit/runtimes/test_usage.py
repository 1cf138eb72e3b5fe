# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from atoll_server.runtimes.cgroups import Group
from atoll_server.runtimes.usage import GroupUsage, read_usage

V1 = {
    "cpuacct.usage": "1500000000\n",
    "cpu.stat": "nr_periods 7\nnr_throttled 2\nthrottled_time 250000000\n",
    "cpu.cfs_quota_us": "50000\n",
    "cpu.cfs_period_us": "100000\n",
    "memory.usage_in_bytes": "300\n",
    "memory.max_usage_in_bytes": "400\n",
    "memory.limit_in_bytes": "1000\n",
    "memory.stat": "cache 5\ntotal_cache 100\ntotal_rss 150\ntotal_shmem 50\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "pids.current": "7\n",
    "pids.max": "64\n",
}
V2 = {
    "cpu.stat": "usage_usec 1500000\nuser_usec 1\nnr_throttled 2\nthrottled_usec 250000\n",
    "cpu.max": "50000 100000\n",
    "memory.current": "300\n",
    "memory.peak": "400\n",
    "memory.max": "1000\n",
    "memory.stat": "anon 150\nfile 100\nshmem 50\n",
    "memory.events": "oom 4\noom_kill 3\n",
    "pids.current": "7\n",
    "pids.max": "64\n",
}
EXPECTED = GroupUsage(
    cpu_seconds=1.5,
    throttled_seconds=0.25,
    cpu_limit=0.5,
    memory=300,
    memory_held=200,
    memory_peak=400,
    memory_limit=1000,
    processes=7,
    processes_limit=64,
    oom_kills=3,
)


def make_group(version: int, directory: Path) -> Group:
    for name, content in (V2 if version == 2 else V1).items():
        (directory / name).write_text(content)
    names = ("unified",) if version == 2 else ("cpu", "cpuacct", "memory", "pids")
    return Group(version, dict.fromkeys(names, directory))


@pytest.mark.parametrize("version", [1, 2])
def test_usage_is_the_same_from_either_version(tmp_path: Path, version: int) -> None:
    assert read_usage(make_group(version, tmp_path)) == EXPECTED


def test_a_kernel_that_keeps_no_peak_has_none(tmp_path: Path) -> None:
    group = make_group(2, tmp_path)
    (tmp_path / "memory.peak").unlink()

    assert read_usage(group).memory_peak is None


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_that_is_gone_is_no_group_without_usage(tmp_path: Path, version: int) -> None:
    with pytest.raises(FileNotFoundError):
        read_usage(Group(version, dict.fromkeys(("unified", "cpu", "cpuacct"), tmp_path / "gone")))
