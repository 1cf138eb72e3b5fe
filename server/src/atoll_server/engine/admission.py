# SPDX-License-Identifier: Apache-2.0
"""Whether the host has room for one more sandbox. Better a refusal now than a slow death of all later."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atoll_server.engine.errors import ResourceExhausted
from atoll_server.engine.model import Limits

_MEMORY_FIELDS: Final = ("MemTotal:", "MemAvailable:")


@dataclass(frozen=True)
class AdmissionSettings:
    """What an operator allows. Zero sandboxes is no limit of their number.

    `memory_overcommit`: how many times the host's memory may be promised, all limits together. Most sandboxes use a
    small part of theirs: by default 500 of the usual size fit on a host of 24 GB, if they idle. `memory_reserve_mb` and
    `disk_reserve_mb`: what must really be free, as the sandboxes that are there may yet take what they were promised.
    """

    max_sandboxes: int = 0
    memory_overcommit: float = 100.0
    memory_reserve_mb: int = 512
    disk_reserve_mb: int = 1024


@dataclass(frozen=True)
class Room:
    """What the host has, in MiB. The disk is the one that holds the sandboxes' own."""

    memory_total_mb: int
    memory_free_mb: int
    disk_free_mb: int


def read_room(disks: Path) -> Room:
    """What there is now. Both are answered by the kernel at once."""
    with open("/proc/meminfo", encoding="ascii") as file:
        fields = dict(line.split()[:2] for line in file if line.startswith(_MEMORY_FIELDS))
    total, free = (int(fields[name]) >> 10 for name in _MEMORY_FIELDS)
    disk = os.statvfs(disks)
    return Room(total, free, disk.f_bavail * disk.f_frsize >> 20)


def find_obstacle(
    wanted: Limits, promised: Collection[Limits], room: Room, settings: AdmissionSettings
) -> str | None:
    """Why one more sandbox with these limits does not fit beside those that are promised theirs; None where it does."""
    if settings.max_sandboxes and len(promised) >= settings.max_sandboxes:
        return f"it may hold {settings.max_sandboxes} sandboxes, and does"
    if wanted.memory_mb > room.memory_total_mb:
        return f"it has {room.memory_total_mb} MiB of memory, {wanted.memory_mb} are asked for"
    promise = sum(limits.memory_mb for limits in promised) + wanted.memory_mb
    if promise > room.memory_total_mb * settings.memory_overcommit:
        return f"its memory is promised {settings.memory_overcommit:g} times over already"
    if room.memory_free_mb < settings.memory_reserve_mb:
        return f"{room.memory_free_mb} MiB of its memory are free, {settings.memory_reserve_mb} are kept free"
    if room.disk_free_mb < settings.disk_reserve_mb:
        return f"{room.disk_free_mb} MiB of its disk are free, {settings.disk_reserve_mb} are kept free"
    return None


class Admission:
    """Asks what the host has, each time."""

    def __init__(self, settings: AdmissionSettings, disks: Path) -> None:
        self._settings = settings
        self._disks = disks

    def check(self, wanted: Limits, promised: Collection[Limits]) -> None:
        """Raises `ResourceExhausted` where one more sandbox does not fit."""
        obstacle = find_obstacle(wanted, promised, read_room(self._disks), self._settings)
        if obstacle is not None:
            raise ResourceExhausted(f"the host has no room for another sandbox: {obstacle}")
