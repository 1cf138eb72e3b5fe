# SPDX-License-Identifier: Apache-2.0
"""The OCI configuration of a sandbox, rendered from records by pure functions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from atoll_server.runtimes.base import SOCKET_NAME, Launch, Staged
from atoll_server.runtimes.seccomp import render_seccomp

AGENT_PATH = "/run/atoll/agent"
CONTROL_PATH = "/run/atoll/control"

# What a package manager and a login need, and nothing that reaches past the sandbox's own files and processes.
CAPABILITIES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
MASKED_PATHS: tuple[str, ...] = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS: tuple[str, ...] = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
# Whoever somebody is inside, the low ports are free, as in Docker's containers.
SYSCTLS: Mapping[str, str] = {"net.ipv4.ip_unprivileged_port_start": "0"}
_SHM_SHARE = 4


def render_config(launch: Launch, staged: Staged) -> dict[str, Any]:
    """The OCI `config.json` that every runtime starts from."""
    return {
        "ociVersion": "1.0.2",
        "hostname": launch.sandbox_id.replace("_", "-"),
        "root": {"path": str(staged.root), "readonly": False},
        "process": _process(launch.open_files),
        "mounts": _mounts(launch, staged),
        "linux": {
            "namespaces": [
                *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                {"type": "network", **_network(launch)},
            ],
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
        },
    }


def confine_to_host_kernel(
    config: dict[str, Any], launch: Launch, *, joins: bool
) -> dict[str, Any]:
    """Add what a sandbox on the host's own kernel needs: its user and cgroup namespace and a system call filter.

    `joins`: the user namespace is the one that was made for the id range and belongs to it (see `idmap`).
    """
    assert launch.ids is not None, "a container without an id range"
    mapping = [{"containerID": 0, "hostID": launch.ids.first, "size": launch.ids.size}]
    user = {"type": "user"}
    if joins:
        user["path"] = f"/proc/{os.getpid()}/fd/{launch.user_namespace}"
    linux = config["linux"]
    return config | {
        "linux": linux
        | {
            "namespaces": [*linux["namespaces"], user, {"type": "cgroup"}],
            "uidMappings": mapping,
            "gidMappings": mapping,
            "sysctl": dict(SYSCTLS),
            "seccomp": render_seccomp(may_linger=launch.may_linger),
        }
    }


def _process(open_files: int) -> dict[str, Any]:
    capabilities = list(CAPABILITIES)
    return {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": [AGENT_PATH, "--socket", f"{CONTROL_PATH}/{SOCKET_NAME}"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "cwd": "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": open_files, "soft": open_files}],
        "noNewPrivileges": True,
    }


def _mounts(launch: Launch, staged: Staged) -> list[dict[str, Any]]:
    shared_memory = f"size={launch.limits.memory_mb // _SHM_SHARE}m"
    return [
        _mount("/proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=64k"),
        _mount(
            "/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"
        ),
        _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", shared_memory),
        _mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        {
            "destination": CONTROL_PATH,
            "type": "bind",
            "source": str(staged.control),
            "options": ["bind", "rw", "nosuid", "nodev", "noexec"],
        },
    ]


def _mount(destination: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


def _network(launch: Launch) -> dict[str, str]:
    """Where the runtime finds it, through us: mounted it is, but not where the runtime sees it."""
    if launch.network is None:
        return {}
    return {"path": f"/proc/{os.getpid()}/fd/{launch.network.result().fileno()}"}
