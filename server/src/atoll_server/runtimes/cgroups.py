# SPDX-License-Identifier: Apache-2.0
"""Control groups, v1 and v2: limits, membership, killing, and what the kernel says of memory.

Atoll prepares a group and starts the runtime inside it, so that all of this is alike for every runtime. On a hybrid
host (v1 controllers beside an empty v2 tree) the v1 hierarchies are used.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atoll_server.runtimes import kernel

MOUNT = Path("/sys/fs/cgroup")

_V1_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "freezer")
_V2_CONTROLLERS = ("cpu", "memory", "pids")
_CPU_PERIOD_US = 100_000
_PARENT_WEIGHT = 0.5
"""Of all sandboxes together, beside what a group or a session of the host has by default.

The server, and clients on the same host, pass a request on several times. With the whole weight they waited for a loud
sandbox, now and then for tens of milliseconds.
"""
_DEFAULT_SHARES = 1024
_DEFAULT_WEIGHT = 100
_REMOVE_ATTEMPTS = 100
_REMOVE_PAUSE = 0.005


class CgroupError(Exception):
    """The host's control groups cannot do what is needed."""


@dataclass(frozen=True)
class GroupLimits:
    """`memory_bytes` counts everything of the group, the runtime's own memory included."""

    cpus: float
    memory_bytes: int
    pids: int


def render_limits(limits: GroupLimits, *, version: int) -> Mapping[str, str]:
    """File name → content. Names carry their controller (`memory.max`), which on v1 is also the hierarchy."""
    memory = str(limits.memory_bytes)
    if version == 2:
        return {
            **_render_cpus(limits.cpus, version=2),
            "memory.max": memory,
            "memory.swap.max": "0",
            "pids.max": str(limits.pids),
        }
    return {
        **_render_cpus(limits.cpus, version=1),
        "memory.limit_in_bytes": memory,
        "memory.memsw.limit_in_bytes": memory,
        "pids.max": str(limits.pids),
    }


def _render_cpus(cpus: float, *, version: int) -> Mapping[str, str]:
    quota = str(int(cpus * _CPU_PERIOD_US))
    if version == 2:
        return {"cpu.max": f"{quota} {_CPU_PERIOD_US}"}
    return {"cpu.cfs_period_us": str(_CPU_PERIOD_US), "cpu.cfs_quota_us": quota}


def render_parent_weight(*, version: int) -> Mapping[str, str]:
    """What the group of all sandboxes weighs, of all servers of this host: file name → content."""
    if version == 2:
        return {"cpu.weight": str(round(_DEFAULT_WEIGHT * _PARENT_WEIGHT))}
    return {"cpu.shares": str(round(_DEFAULT_SHARES * _PARENT_WEIGHT))}


@dataclass(frozen=True)
class Group:
    """One sandbox's group. `directories` are its place in each hierarchy; on v2 there is one."""

    version: int
    directories: Mapping[str, Path]

    def entry_files(self) -> tuple[Path, ...]:
        """Writing `0` to each of these moves the writer in, which must have one thread.

        On v1 that is `tasks`: for `cgroup.procs` the kernel stops all forking of the host, and waits 5 to 15 ms for it.
        """
        name = "cgroup.procs" if self.version == 2 else "tasks"
        return tuple(directory / name for directory in self.directories.values())

    def pids(self) -> tuple[int, ...]:
        """Every process in the group, from the host's view; none if the group is gone."""
        first = next(iter(self.directories.values()))
        try:
            return tuple(int(line) for line in (first / "cgroup.procs").read_text().split())
        except (FileNotFoundError, OSError):
            return ()

    def oom_kills(self) -> int:
        """How often the kernel killed a process of the group for its memory limit."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        try:
            text = (self._directory("memory") / name).read_text()
        except OSError:
            return 0
        return next(
            (int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0
        )

    def memory_held(self) -> int:
        """Bytes that the kernel could not take back by dropping caches; 0 if the group is gone."""
        # v1 counts shared memory among the cache, and the children in the names with `total_`.
        names = ("anon ", "shmem ") if self.version == 2 else ("total_rss ", "total_shmem ")
        try:
            lines = (self._directory("memory") / "memory.stat").read_text().splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) for line in lines if line.startswith(names))

    def memory_used(self) -> int:
        """Bytes, caches included; 0 if the group is gone."""
        name = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        try:
            return int((self._directory("memory") / name).read_text())
        except OSError:
            return 0

    def watch_memory(self, threshold: int) -> int:
        """A descriptor that becomes readable whenever the group's memory, caches included, passes `threshold` bytes.

        On v2 the group is also slowed there. The caller reads from it to wait anew, and closes it.
        """
        directory = self._directory("memory")
        if self.version == 2:
            (directory / "memory.high").write_text(str(threshold))
            return kernel.watch_changes(directory / "memory.events")
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        usage = os.open(directory / "memory.usage_in_bytes", os.O_RDONLY | os.O_CLOEXEC)
        try:
            (directory / "cgroup.event_control").write_text(f"{event} {usage} {threshold}")
        except BaseException:
            os.close(event)
            raise
        finally:
            os.close(usage)
        return event

    def set_late(self, *, cpus: float, pids: int) -> None:
        """Other limits of processor time and of processes, for what runs too."""
        self.write({**_render_cpus(cpus, version=self.version), "pids.max": str(pids)})

    def freeze(self) -> None:
        """Stop every process where it is, and have it take no processor time. On v1 a kill then waits for `thaw`."""
        if self.version == 2:
            self.write({"cgroup.freeze": "1"})
        else:
            self.write({"freezer.state": "FROZEN"})

    def thaw(self) -> None:
        """Let go on what was stopped. Raises `FileNotFoundError` where the group is gone."""
        if self.version == 2:
            self.write({"cgroup.freeze": "0"})
        else:
            self.write({"freezer.state": "THAWED"})

    def is_killed(self) -> bool:
        """Whether one of its processes will end when it runs next: what is frozen on v1 keeps a SIGKILL for then.

        Also where there is none.
        """
        pids = self.pids()
        return not pids or any(map(_is_killed, pids))

    def kill(self, *, timeout: float) -> None:
        """Kill every process and return when all are gone. Blocks; an empty or missing group is fine."""
        deadline = time.monotonic() + timeout
        with contextlib.suppress(FileNotFoundError):
            self.thaw()
        while pids := self.pids():
            _kill_and_wait(pids, deadline)
            if time.monotonic() > deadline:
                raise CgroupError(f"processes {self.pids()} survive SIGKILL after {timeout:g} s")

    def remove(self) -> None:
        """Remove the group's directories; those that are gone already are fine."""
        for directory in self.directories.values():
            _remove_directory(directory)

    def read(self, name: str) -> str:
        """The content of one of its files. Raises `OSError`, a `FileNotFoundError` where the group is gone."""
        return (self._directory(name.split(".", 1)[0]) / name).read_text()

    def write(self, limits: Mapping[str, str]) -> None:
        """Write files by name, in this order. A limit of swap is left out on kernels that do not count it."""
        for name, content in limits.items():
            file = self._directory(name.split(".", 1)[0]) / name
            if ("swap" in name or "memsw" in name) and not file.exists():
                continue
            file.write_text(content)

    def _directory(self, controller: str) -> Path:
        return self.directories["unified" if self.version == 2 else controller]


class Cgroups:
    """The host's hierarchies, and the parent group `name` below which sandboxes' groups are made."""

    def __init__(self, name: str) -> None:
        self.version = 2 if (MOUNT / "cgroup.controllers").exists() else 1
        roots = {"unified": MOUNT} if self.version == 2 else {c: MOUNT / c for c in _V1_CONTROLLERS}
        missing = [str(path) for path in roots.values() if not path.is_dir()]
        if missing:
            raise CgroupError(f"control group hierarchies are missing: {', '.join(missing)}")
        self._name = name
        self._roots = roots
        self._parents = {key: root / name for key, root in roots.items()}

    def prepare(self) -> None:
        """Make the parent group, weigh the outermost and, on v2, hand the controllers down."""
        for key, parent in self._parents.items():
            parent.mkdir(parents=True, exist_ok=True)
            if key == "unified":
                for directory in (MOUNT, *reversed(parent.relative_to(MOUNT).parents[:-1]), parent):
                    _enable_controllers(MOUNT / directory)
        self._outermost().write(render_parent_weight(version=self.version))

    def _outermost(self) -> Group:
        """The group `atoll`, which stands beside the host's own."""
        name = Path(self._name).parts[0]
        return Group(self.version, {key: root / name for key, root in self._roots.items()})

    def group(self, sandbox_id: str) -> Group:
        """The group of a sandbox, whether it exists or not."""
        return Group(
            self.version, {key: parent / sandbox_id for key, parent in self._parents.items()}
        )

    def create(self, sandbox_id: str, limits: GroupLimits) -> Group:
        """Make a sandbox's group and set its limits."""
        group = self.group(sandbox_id)
        for directory in group.directories.values():
            directory.mkdir()
        group.write(render_limits(limits, version=self.version))
        return group

    def existing(self) -> frozenset[str]:
        """Names of all groups below the parent: sandboxes that are, or were not cleaned up."""
        found: set[str] = set()
        for parent in self._parents.values():
            if parent.is_dir():
                found.update(entry.name for entry in parent.iterdir() if entry.is_dir())
        return frozenset(found)

    def dismantle(self) -> None:
        """Remove the parent group if no sandbox is left in it."""
        if self.existing():
            return
        # Not only in the hierarchies that we use: runc makes the parents of its groups in all of them.
        roots = (
            [MOUNT] if self.version == 2 else [path for path in MOUNT.iterdir() if path.is_dir()]
        )
        for parent in (root / self._name for root in roots):
            _remove_directory(parent)
            # `atoll` itself goes with its last instance; another server's groups keep it.
            if parent.parent.is_dir() and not any(map(Path.is_dir, parent.parent.iterdir())):
                _remove_directory(parent.parent)


def _is_killed(pid: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return True
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    # Of several threads the first may have ended already, and shows no signals any more.
    return fields["State"][0] in "ZX" or bool(pending >> (signal.SIGKILL - 1) & 1)


def _enable_controllers(directory: Path) -> None:
    wanted = " ".join(f"+{controller}" for controller in _V2_CONTROLLERS)
    try:
        (directory / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        raise CgroupError(f"cannot enable {wanted} in {directory}: {error.strerror}") from None


def _kill_and_wait(pids: tuple[int, ...], deadline: float) -> None:
    """SIGKILL each and wait for the end of each by its pidfd, so that a reused pid is never hit."""
    waiting: dict[int, int] = {}
    poller = select.poll()
    try:
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            waiting[descriptor] = pid
            poller.register(descriptor, select.POLLIN)
            _send_kill(descriptor)
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(left * 1000):
                poller.unregister(descriptor)
                del waiting[descriptor]
                os.close(descriptor)
    finally:
        for descriptor in waiting:
            os.close(descriptor)


def _send_kill(descriptor: int) -> None:
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return  # It ended by itself in between, which is what was wanted.


def _remove_directory(directory: Path) -> None:
    """rmdir, again for a moment while the kernel still lets go of the last process (EBUSY)."""
    for _ in range(_REMOVE_ATTEMPTS):
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(_REMOVE_PAUSE)  # noqa: TID251 - the kernel offers no event for this
        else:
            return
    raise CgroupError(f"{directory} stays busy")
