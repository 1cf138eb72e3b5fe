# SPDX-License-Identifier: Apache-2.0
"""How much a server, and its host for it, hold at a moment: what cycles of sandboxes must leave as it was."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.support.inventory import take_inventory
from tests.support.processes import open_files, resident_mb, threads
from tests.support.server import ServerProcess

SETTLE = 10.0
_STEP = 0.5
_KINDS = ("process", "mount", "loop device", "control group", "file")

Footprint = Mapping[str, float]


def take_footprint(server: ServerProcess, named: Iterable[str]) -> Footprint:
    """What is counted now. Things of the host count where they name the server's directory or one of `named`."""
    group = _own_group(server)
    _drop_caches(group)
    return {
        "descriptors": open_files(server.pid),
        "threads": threads(server.pid),
        "children": _children(server.pid),
        "memory MiB": round(resident_mb(server.pid), 1),
        **_things(server.directory, tuple(named)),
        "charged MiB": _charged_mb(group),
        # The host's as a whole, with whatever else runs there.
        "host namespaces": _namespaces(),
        "host control groups": _control_groups(),
        "host kernel memory MiB": _kernel_memory_mb(),
    }


def find_growth(
    server: ServerProcess, named: Iterable[str], before: Footprint, allowed: Mapping[str, float]
) -> tuple[Footprint, dict[str, float]]:
    """What is held now, and what of it has grown by more than `allowed`, which is nothing unless said.

    Looks again while there is any, for as long as the kernel may take to let go of what has ended.
    """
    named = tuple(named)
    deadline = time.monotonic() + SETTLE
    while True:
        now = take_footprint(server, named)
        grown = {name: round(now[name] - before[name], 1) for name in before}
        growth = {name: by for name, by in grown.items() if by > allowed.get(name, 0)}
        if not growth or time.monotonic() > deadline:
            return now, growth
        threading.Event().wait(_STEP)


def _things(directory: Path, named: tuple[str, ...]) -> dict[str, float]:
    """Of each kind of thing that sandboxes leave, how many there are that name this server's places or these ids."""
    names = (str(directory), *named)
    own = [line for line in take_inventory([directory]) if any(name in line for name in names)]
    return {kind: sum(line.startswith(f"{kind} ") for line in own) for kind in _KINDS}


def _own_group(server: ServerProcess) -> Path:
    """The memory group above those of the server's sandboxes. What ended ones were charged for is charged to it."""
    (run,) = server.run_dir.iterdir()
    top = Path("/sys/fs/cgroup")
    parent = top if (top / "cgroup.controllers").exists() else top / "memory"
    return parent / "atoll" / run.name


def _drop_caches(group: Path) -> None:
    """Have the kernel let go of pages and names of shared files that ended sandboxes were the first to look at.

    The group of such a sandbox stays with the kernel for as long as they do.
    """
    for name, content in (("memory.force_empty", "0"), ("memory.reclaim", "1G")):
        # Either is there, and complains where it could not free as much as it was told to.
        with contextlib.suppress(OSError):
            (group / name).write_text(content)


def _charged_mb(group: Path) -> float:
    for name in ("memory.usage_in_bytes", "memory.current"):
        if (group / name).exists():
            return round(int((group / name).read_text()) / (1 << 20), 1)
    raise AssertionError(f"no memory group {group}")


def _children(pid: int) -> int:
    return sum(
        len(file.read_text().split()) for file in Path(f"/proc/{pid}/task").glob("*/children")
    )


def _namespaces() -> int:
    """Namespaces that some process of the host is in."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/ns/*"):
        try:
            found.add(os.readlink(entry))
        except OSError:
            continue
    return len(found)


def _control_groups() -> int:
    """Memory groups that the kernel keeps, those too that are removed and still charged for something.

    0 where it does not count them.
    """
    table = Path("/proc/cgroups").read_text()
    found = re.search(r"^memory\s+\d+\s+(\d+)", table, re.MULTILINE)
    return int(found.group(1)) if found else 0


def _kernel_memory_mb() -> float:
    """What the kernel holds for itself and cannot take back by dropping caches."""
    table = Path("/proc/meminfo").read_text()
    pages = re.findall(
        r"^(?:SUnreclaim|KernelStack|PageTables|Percpu):\s+(\d+) kB", table, re.MULTILINE
    )
    return round(sum(map(int, pages)) / 1024, 1)
