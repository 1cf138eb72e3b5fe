# SPDX-License-Identifier: Apache-2.0
"""What sandboxes leave on a host: processes, mounts, loop devices, control groups, network namespaces, files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

SETTLE = 3.0
_STEP = 0.02
_GROUP_DEPTH = 4
# Host ids below this are people and services; id ranges of sandboxes start above.
_FIRST_MAPPED_ID = 65_536
_PROGRAMS = ("atoll-agent", "crun", "runc", "runsc", "runsc-gofer", "runsc-sandbox")


def take_inventory(directories: Iterable[Path] = ()) -> frozenset[str]:
    """Everything on this host that a sandbox could have left, one line each, and all files below `directories`."""
    return frozenset([
        *_processes(),
        *_mounts(),
        *_loop_devices(),
        *_control_groups(),
        *_network_namespaces(),
        *(f"file {path}" for directory in directories for path in directory.rglob("*")),
    ])  # fmt: skip


def find_leftovers(
    sandbox_ids: Iterable[str], directories: Iterable[Path] = (), *, settle: float = SETTLE
) -> frozenset[str]:
    """What of the inventory names one of these sandboxes, once the kernel had time to settle.

    Loop devices and control groups go a moment after the last process that used them.
    """
    ids = tuple(sandbox_ids)
    directories = tuple(directories)

    def look() -> frozenset[str]:
        return frozenset(
            line for line in take_inventory(directories) if any(id_ in line for id_ in ids)
        )

    return _settled(look, settle) if ids else frozenset()


def find_difference(
    before: frozenset[str], directories: Iterable[Path] = (), *, settle: float = SETTLE
) -> frozenset[str]:
    """What of the inventory was not there before, once the kernel had time to settle."""
    directories = tuple(directories)
    return _settled(lambda: take_inventory(directories) - before, settle)


def _settled(look: Callable[[], frozenset[str]], settle: float) -> frozenset[str]:
    deadline = time.monotonic() + settle
    while (found := look()) and time.monotonic() < deadline:
        threading.Event().wait(_STEP)
    return found


def _processes() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (
                (entry / "cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
                .strip()
            )
            owner = entry.stat().st_uid
        except OSError:
            continue
        program = command.split(" ", 1)[0].rsplit("/", 1)[-1]
        if program in _PROGRAMS or owner >= _FIRST_MAPPED_ID:
            yield f"process {entry.name} {command}"


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        yield f"mount {fields[4]} {' '.join(fields[fields.index('-') + 1 :])}"


def _loop_devices() -> Iterator[str]:
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            yield f"loop device {file.parent.parent.name} {file.read_text().strip()}"
        except OSError:
            continue


def _control_groups() -> Iterator[str]:
    # Unlike a glob, a walk goes on where another server's group vanishes under it.
    top = "/sys/fs/cgroup"
    for directory, names, _ in os.walk(top):
        if directory.count("/") - top.count("/") >= _GROUP_DEPTH:
            names.clear()
        if "atoll" in directory:
            yield f"control group {directory}"


def _network_namespaces() -> Iterator[str]:
    directory = Path("/run/netns")
    if directory.exists():
        yield from (f"network namespace {path.name}" for path in directory.iterdir())
