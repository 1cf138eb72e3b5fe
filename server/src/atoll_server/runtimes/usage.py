# SPDX-License-Identifier: Apache-2.0
"""What a control group has used and may use, v1 and v2. Reads a dozen small files, and asks nobody inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atoll_server.runtimes.cgroups import Group

_NANOSECONDS = 1e9
_MICROSECONDS = 1e6


@dataclass(frozen=True)
class GroupUsage:
    """Everything of the group counts, the runtime's own memory and threads included.

    `memory_held`: what of `memory` the kernel could not take back by dropping caches. `memory_peak` is None where the
    kernel does not keep it (v2 before 5.19). `processes` are processes and threads.
    """

    cpu_seconds: float
    throttled_seconds: float
    cpu_limit: float
    memory: int
    memory_held: int
    memory_peak: int | None
    memory_limit: int
    processes: int
    processes_limit: int
    oom_kills: int


def read_usage(group: Group) -> GroupUsage:
    """What there is now. Raises `FileNotFoundError` where the group is gone."""
    cpu = _read_cpu_v2(group) if group.version == 2 else _read_cpu_v1(group)
    names = _V2_MEMORY if group.version == 2 else _V1_MEMORY
    memory, peak, limit = (_read_number(group, name) for name in names)
    if memory is None or limit is None:
        raise FileNotFoundError(f"no group {group}")
    seconds, throttled, cpu_limit = cpu
    return GroupUsage(
        cpu_seconds=seconds,
        throttled_seconds=throttled,
        cpu_limit=round(cpu_limit, 3),
        memory=memory,
        memory_held=group.memory_held(),
        memory_peak=peak,
        memory_limit=limit,
        processes=int(group.read("pids.current")),
        processes_limit=int(group.read("pids.max")),
        oom_kills=group.oom_kills(),
    )


_V1_MEMORY = (
    "memory.usage_in_bytes",
    "memory.max_usage_in_bytes",
    "memory.limit_in_bytes",
)
_V2_MEMORY = ("memory.current", "memory.peak", "memory.max")


def _read_cpu_v1(group: Group) -> tuple[float, float, float]:
    """Seconds used, seconds held back by the limit, and the limit."""
    used = int(group.read("cpuacct.usage")) / _NANOSECONDS
    throttled = int(_read_table(group, "cpu.stat")["throttled_time"]) / _NANOSECONDS
    quota, period = int(group.read("cpu.cfs_quota_us")), int(group.read("cpu.cfs_period_us"))
    return used, throttled, quota / period


def _read_cpu_v2(group: Group) -> tuple[float, float, float]:
    counts = _read_table(group, "cpu.stat")
    quota, period = map(int, group.read("cpu.max").split())
    used, throttled = int(counts["usage_usec"]), int(counts["throttled_usec"])
    return used / _MICROSECONDS, throttled / _MICROSECONDS, quota / period


def _read_table(group: Group, name: str) -> Mapping[str, str]:
    return dict(line.split(" ", 1) for line in group.read(name).splitlines())


def _read_number(group: Group, name: str) -> int | None:
    """None where this kernel has no such file."""
    try:
        return int(group.read(name))
    except FileNotFoundError:
        return None
