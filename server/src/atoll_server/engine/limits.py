# SPDX-License-Identifier: Apache-2.0
"""Which limits an operator lets sandboxes have. Decides only."""

from __future__ import annotations

from dataclasses import dataclass

from atoll_server.engine.errors import InvalidConfig
from atoll_server.engine.model import OPEN_FILES, PIDS, Limits

USUAL_CPUS = (2, 4, 8)


@dataclass(frozen=True)
class LimitSettings:
    """The least and the most of each. Without bounds of `cpu`, it is one of the usual numbers of processors."""

    cpu_min: float | None = None
    cpu_max: float | None = None
    memory_min_mb: int = 2048
    memory_max_mb: int = 16_384
    disk_min_mb: int = 5120
    disk_max_mb: int = 51_200
    pids_max: int = PIDS
    open_files_max: int = OPEN_FILES


def choose_limits(
    settings: LimitSettings,
    *,
    cpu: float,
    memory_mb: int,
    disk_mb: int,
    pids: int | None,
    open_files: int | None,
) -> Limits:
    """The limits that are asked for, where they may be had; None asks for the most. Raises `InvalidConfig`."""
    _check_cpu(cpu, settings)
    _check("memoryMb", memory_mb, settings.memory_min_mb, settings.memory_max_mb)
    _check("diskMb", disk_mb, settings.disk_min_mb, settings.disk_max_mb)
    pids = settings.pids_max if pids is None else pids
    open_files = settings.open_files_max if open_files is None else open_files
    _check("pids", pids, None, settings.pids_max)
    _check("openFiles", open_files, None, settings.open_files_max)
    return Limits(cpu, memory_mb, disk_mb, pids, open_files)


def _check_cpu(cpu: float, settings: LimitSettings) -> None:
    if settings.cpu_min is None and settings.cpu_max is None:
        if cpu not in USUAL_CPUS:
            usual = ", ".join(map(str, USUAL_CPUS))
            raise InvalidConfig(f"`resources.cpu` must be one of {usual}; got `{cpu:g}`")
        return
    least = USUAL_CPUS[0] if settings.cpu_min is None else settings.cpu_min
    most = USUAL_CPUS[-1] if settings.cpu_max is None else settings.cpu_max
    _check("cpu", cpu, least, most)


def _check(name: str, value: float, least: float | None, most: float) -> None:
    if (least is None or value >= least) and value <= most:
        return
    allowed = f"at most {most:g}" if least is None else f"{least:.15g} to {most:.15g}"
    raise InvalidConfig(f"`resources.{name}` must be {allowed} on this server; got `{value:.15g}`")
