# SPDX-License-Identifier: Apache-2.0
"""Whether this host can run sandboxes, and what to do where it cannot, judged by its facts alone."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from atoll_server import privileges
from atoll_server.engine.model import RuntimeKind
from atoll_server.facts import CONTROLLERS, V1_ONLY_CONTROLLERS, HostFacts, collect_facts
from atoll_server.runtimes import gvisor
from atoll_server.runtimes.container import Crun, Runc

_MINIMUM_MEMORY_MB = 1024
_MINIMUM_DISK_MB = 2048
_IDMAPPED_OVERLAY_SINCE = (5, 19)
_IDMAPPABLE = ("btrfs", "ext4", "erofs", "f2fs", "squashfs", "tmpfs", "vfat", "xfs")


class Mark(enum.Enum):
    """How one finding bears on sandboxes."""

    FINE = "fine"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `advice` says what to do; None where nothing needs doing."""

    subject: str
    mark: Mark
    detail: str
    advice: str | None = None


@dataclass(frozen=True)
class Report:
    """What was found, and what a sandbox gets that asks for `runtime="auto"`; None where no runtime is usable."""

    findings: tuple[Finding, ...]
    runtimes: tuple[RuntimeKind, ...]
    isolation: str

    @property
    def ready(self) -> bool:
        """True when at least one runtime can run sandboxes here."""
        return bool(self.runtimes)

    @property
    def automatic(self) -> RuntimeKind | None:
        """The runtime of a sandbox that leaves the choice to the server."""
        return self.runtimes[0] if self.runtimes else None


def examine(state_directory: Path) -> Report:
    """Look at this host and judge it. Changes nothing, and asks no running server."""
    return diagnose(collect_facts(state_directory))


def diagnose(facts: HostFacts) -> Report:
    """Judge the host. Problems of one runtime leave the other usable; problems of the host leave none."""
    shared = (
        _system(facts),
        _root(facts),
        _agent(facts),
        _cgroup(facts),
        _loop(facts),
        _overlay(facts),
    )
    container = (_container(facts), _user_namespaces(facts), _idmapped(facts))
    gvisor = _gvisor(facts)
    minor = (_network(facts), _memory(facts), _disk(facts))
    runtimes = _usable(shared, container=container, gvisor=gvisor)
    rest = tuple(_as_warning(finding) if runtimes else finding for finding in (gvisor, *container))
    return Report(shared[:3] + rest + shared[3:] + minor, runtimes, _isolation(facts, runtimes))


def _usable(
    shared: tuple[Finding, ...], *, container: tuple[Finding, ...], gvisor: Finding
) -> tuple[RuntimeKind, ...]:
    def without_problem(*findings: Finding) -> bool:
        return all(finding.mark is not Mark.PROBLEM for finding in findings)

    if not without_problem(*shared):
        return ()
    kinds = []
    if without_problem(gvisor):
        kinds.append(RuntimeKind.GVISOR)
    if without_problem(*container):
        kinds.append(RuntimeKind.CONTAINER)
    return tuple(kinds)


def _as_warning(finding: Finding) -> Finding:
    """What one runtime lacks is no problem of a host on which the other works."""
    if finding.mark is not Mark.PROBLEM:
        return finding
    return Finding(finding.subject, Mark.WARNING, finding.detail, finding.advice)


def _isolation(facts: HostFacts, runtimes: tuple[RuntimeKind, ...]) -> str:
    """In the words that a sandbox itself will report."""
    if not runtimes:
        return "none: sandboxes cannot run here"
    if runtimes[0] is RuntimeKind.GVISOR:
        return gvisor.Runsc.capabilities.isolation
    driver = Crun if "crun" in facts.programs else Runc
    return driver.capabilities.isolation


# What every sandbox needs.


def _system(facts: HostFacts) -> Finding:
    detail = f"{facts.system} {facts.kernel[0]}.{facts.kernel[1]} on {facts.machine}, {facts.distribution}"
    if facts.system != "Linux":
        return Finding(
            "system", Mark.PROBLEM, detail, "run the server on Linux; the client works from here"
        )
    if facts.machine not in ("x86_64", "aarch64"):
        return Finding("system", Mark.PROBLEM, detail, "run the server on x86-64 or arm64")
    return Finding("system", Mark.FINE, detail)


def _root(facts: HostFacts) -> Finding:
    if not facts.root:
        return Finding("root", Mark.PROBLEM, "not running as root", "start the server as root")
    if facts.missing:
        detail = f"running as root without {', '.join(facts.missing)}"
        return Finding("root", Mark.PROBLEM, detail, privileges.ADVICE)
    return Finding("root", Mark.FINE, "running as root")


def _agent(facts: HostFacts) -> Finding:
    if facts.agent:
        return Finding("agent", Mark.FINE, facts.agent)
    return Finding(
        "agent", Mark.PROBLEM, "the agent binary is missing", "run `make setup` in the repository"
    )


def _cgroup(facts: HostFacts) -> Finding:
    needed = CONTROLLERS + (V1_ONLY_CONTROLLERS if facts.cgroup in ("v1", "hybrid") else ())
    missing = [name for name in needed if name not in facts.controllers]
    detail = f"{facts.cgroup}, controllers {', '.join(name for name in needed if name in facts.controllers) or 'none'}"
    if facts.cgroup == "none" or missing:
        lacking = f"{detail}; missing {', '.join(missing)}"
        return Finding(
            "cgroups", Mark.PROBLEM, lacking, "mount /sys/fs/cgroup with these controllers"
        )
    return Finding("cgroups", Mark.FINE, detail)


def _loop(facts: HostFacts) -> Finding:
    if not facts.loop_devices:
        return Finding("disk images", Mark.PROBLEM, "no /dev/loop-control", "run `modprobe loop`")
    if "ext4" not in facts.filesystems:
        return Finding("disk images", Mark.PROBLEM, "the kernel has no ext4", "run `modprobe ext4`")
    if "mkfs.ext4" not in facts.programs:
        return Finding("disk images", Mark.PROBLEM, "no mkfs.ext4", "install the package e2fsprogs")
    return Finding("disk images", Mark.FINE, "loop devices and ext4")


def _overlay(facts: HostFacts) -> Finding:
    if "overlay" in facts.filesystems:
        return Finding("overlayfs", Mark.FINE, "in the kernel")
    return Finding("overlayfs", Mark.PROBLEM, "the kernel has none", "run `modprobe overlay`")


# The runtimes.


def _gvisor(facts: HostFacts) -> Finding:
    program = facts.programs.get("runsc")
    if program is None:
        return Finding("runtime gvisor", Mark.PROBLEM, "runsc is not installed", gvisor.ADVICE)
    fault = gvisor.find_fault(program.version)
    if fault is not None:
        return Finding("runtime gvisor", Mark.PROBLEM, f"{program.path} {fault}", gvisor.ADVICE)
    return Finding("runtime gvisor", Mark.FINE, f"{program.path}, {program.version}")


def _container(facts: HostFacts) -> Finding:
    for name in ("crun", "runc"):
        program = facts.programs.get(name)
        if program is not None and program.version is not None:
            return Finding("runtime container", Mark.FINE, f"{program.path}, {program.version}")
    broken = [program.path for name in ("crun", "runc") if (program := facts.programs.get(name))]
    detail = (
        f"{' and '.join(broken)} do not answer" if broken else "neither crun nor runc is installed"
    )
    return Finding("runtime container", Mark.PROBLEM, detail, "install the package crun")


def _user_namespaces(facts: HostFacts) -> Finding:
    if facts.user_namespaces is None:
        return Finding(
            "user namespaces",
            Mark.PROBLEM,
            "the kernel has none",
            "use a kernel with CONFIG_USER_NS",
        )
    if facts.user_namespaces == 0:
        advice = "run `sysctl user.max_user_namespaces=10000`"
        return Finding("user namespaces", Mark.PROBLEM, "switched off", advice)
    return Finding("user namespaces", Mark.FINE, f"up to {facts.user_namespaces}")


def _idmapped(facts: HostFacts) -> Finding:
    if facts.kernel < _IDMAPPED_OVERLAY_SINCE:
        detail = f"kernel {facts.kernel[0]}.{facts.kernel[1]} cannot, below an overlay"
        return Finding(
            "id-mapped mounts", Mark.PROBLEM, detail, "use kernel 5.19 or newer, or gVisor"
        )
    if facts.usr_filesystem not in _IDMAPPABLE:
        detail = f"uncertain on {facts.usr_filesystem}, which holds /usr"
        return Finding(
            "id-mapped mounts", Mark.WARNING, detail, "try `atoll run --runtime container -- true`"
        )
    return Finding("id-mapped mounts", Mark.FINE, f"/usr is on {facts.usr_filesystem}")


# What sandboxes can do without.


def _network(facts: HostFacts) -> Finding:
    fault = "ip is not installed" if "ip" not in facts.programs else facts.network_fault
    if fault is None:
        return Finding("network", Mark.FINE, "veth pairs, and nftables with tproxy and log")
    advice = "install the package iproute2, and use a kernel with veth, nft_tproxy and nft_log"
    return Finding("network", Mark.WARNING, f"no sandbox can have one: {fault}", advice)


def _memory(facts: HostFacts) -> Finding:
    detail = f"{facts.memory_mb} MiB available"
    if facts.memory_mb < _MINIMUM_MEMORY_MB:
        return Finding(
            "memory", Mark.WARNING, detail, "free some: a sandbox may use up to its own limit"
        )
    return Finding("memory", Mark.FINE, detail)


def _disk(facts: HostFacts) -> Finding:
    detail = f"{facts.disk_mb} MiB free for {facts.state_directory}"
    if facts.disk_mb < _MINIMUM_DISK_MB:
        advice = "free some, or put the state directory elsewhere with --state-dir"
        return Finding("disk", Mark.WARNING, detail, advice)
    return Finding("disk", Mark.FINE, detail)
