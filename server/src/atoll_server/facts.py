# SPDX-License-Identifier: Apache-2.0
"""What this host is and has, as far as sandboxes need it. Reading changes nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from atoll_server import privileges
from atoll_server.engine.opening import AGENT_BINARY
from atoll_server.network.namespace import find_fault
from atoll_server.runtimes.detect import ask_version, find_program

CONTROLLERS = ("cpu", "memory", "pids")
V1_ONLY_CONTROLLERS = ("cpuacct", "freezer")
_RUNTIMES = ("crun", "runc", "runsc")


@dataclass(frozen=True)
class Program:
    """A program of the host. `version` is None where it did not answer."""

    path: str
    version: str | None


@dataclass(frozen=True)
class HostFacts:
    """What was read of the host. `programs` holds those that were found, by name; `missing` are capabilities.

    `network_fault`: why no sandbox can have a network.
    """

    system: str
    machine: str
    kernel: tuple[int, int]
    distribution: str
    root: bool
    programs: dict[str, Program]
    cgroup: str
    controllers: frozenset[str]
    user_namespaces: int | None
    filesystems: frozenset[str]
    usr_filesystem: str
    loop_devices: bool
    agent: str | None
    memory_mb: int
    disk_mb: int
    state_directory: str
    missing: tuple[str, ...] = ()
    network_fault: str | None = None


def collect_facts(state_directory: Path, *, agent: Path = AGENT_BINARY) -> HostFacts:
    """Read the host. Blocks for as long as the runtimes take to say their version."""
    kernel = re.match(r"(\d+)\.(\d+)", platform.release())
    cgroup, controllers = _read_cgroups(Path("/sys/fs/cgroup"))
    return HostFacts(
        system=platform.system(),
        machine=platform.machine(),
        kernel=(int(kernel.group(1)), int(kernel.group(2))) if kernel else (0, 0),
        distribution=_read_distribution(),
        root=os.geteuid() == 0,
        programs=_find_programs(),
        cgroup=cgroup,
        controllers=controllers,
        user_namespaces=_read_number("/proc/sys/user/max_user_namespaces"),
        filesystems=_read_filesystems(),
        usr_filesystem=_read_filesystem_of("/usr"),
        loop_devices=Path("/dev/loop-control").exists(),
        agent=str(agent) if os.access(agent, os.X_OK) else None,
        memory_mb=_read_available_memory(),
        disk_mb=_free_disk(state_directory),
        state_directory=str(state_directory),
        missing=_read_missing(),
        network_fault=find_fault() if platform.system() == "Linux" else "this is not Linux",
    )


def _read_missing() -> tuple[str, ...]:
    if platform.system() != "Linux":
        return ()
    return tuple(one.name for one in privileges.find_missing(privileges.held()))


def _find_programs() -> dict[str, Program]:
    found = {name: find_program(name) for name in ("crun", "runc", "runsc", "ip", "mkfs.ext4")}
    return {
        name: Program(path, ask_version(path) if name in _RUNTIMES else "")
        for name, path in found.items()
        if path is not None
    }


def _read_cgroups(mount: Path) -> tuple[str, frozenset[str]]:
    if (mount / "cgroup.controllers").exists():
        return "v2", frozenset((mount / "cgroup.controllers").read_text().split())
    known = (*CONTROLLERS, *V1_ONLY_CONTROLLERS)
    found = frozenset(name for name in known if (mount / name / "cgroup.procs").exists())
    if not found:
        return "none", found
    return ("hybrid" if (mount / "unified" / "cgroup.procs").exists() else "v1"), found


def _read_distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "an unnamed distribution")
    except OSError:
        return "an unnamed distribution"


def _read_filesystems() -> frozenset[str]:
    """Those the kernel knows now, and those it would load as a module."""
    names = {line.split()[-1] for line in _read_lines("/proc/filesystems")}
    modules = _read_lines(f"/lib/modules/{platform.release()}/modules.dep")
    names |= {Path(line.split(":")[0]).name.split(".")[0] for line in modules if "/fs/" in line}
    return frozenset(names)


def _read_filesystem_of(path: str) -> str:
    """The type of the file system that holds `path`: of all mounts above it, the deepest and latest."""
    best, kind = "", "unknown"
    for line in _read_lines("/proc/self/mounts"):
        _, target, found, *_ = line.split()
        if (path + "/").startswith(target.rstrip("/") + "/") and len(target) >= len(best):
            best, kind = target, found
    return kind


def _read_available_memory() -> int:
    for line in _read_lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def _free_disk(directory: Path) -> int:
    existing = next((path for path in (directory, *directory.parents) if path.is_dir()), Path("/"))
    return shutil.disk_usage(existing).free // 1024**2


def _read_number(path: str) -> int | None:
    lines = _read_lines(path)
    return int(lines[0]) if lines else None


def _read_lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
