# SPDX-License-Identifier: Apache-2.0
"""A sandbox's processes as its host sees them, found by their control group."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path


def host_processes(sandbox_id: str) -> tuple[int, ...]:
    """All processes of a sandbox, those of its runtime included."""
    return tuple(pid for pid in _all_pids() if sandbox_id in _read(pid, "cgroup"))


def first_process(sandbox_id: str) -> int:
    """The process whose end is the sandbox's end: PID 1 inside, or the kernel that gVisor runs it on."""
    for pid in host_processes(sandbox_id):
        if "runsc-sandbox" in _read(pid, "cmdline") or _is_first_of_its_namespace(pid):
            return pid
    raise AssertionError(f"sandbox {sandbox_id} has no first process")


def kill_process(pid: int) -> None:
    """SIGKILL, for a process of a sandbox that the test made."""
    os.kill(pid, signal.SIGKILL)


def kill_all(sandbox_id: str) -> None:
    """SIGKILL to everything of a sandbox, as a host that runs out of memory may do."""
    for pid in host_processes(sandbox_id):
        # One may have ended with another.
        try:
            kill_process(pid)
        except ProcessLookupError:
            continue


def processor_seconds(sandbox_id: str) -> float:
    """What its control group has used of all processors."""
    for usage in Path("/sys/fs/cgroup/cpuacct").glob(f"**/{sandbox_id}/cpuacct.usage"):
        return int(usage.read_text()) / 1e9
    for usage in Path("/sys/fs/cgroup").glob(f"**/{sandbox_id}/cpu.stat"):
        return int(usage.read_text().split()[1]) / 1e6
    raise AssertionError(f"sandbox {sandbox_id} has no control group")


def resident_mb(pid: int) -> float:
    """Memory of a process, in MiB."""
    return _status_kb(pid, "VmRSS") / 1024


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def _is_first_of_its_namespace(pid: int) -> bool:
    for line in _read(pid, "status").splitlines():
        if line.startswith("NSpid:"):
            fields = line.split()
            return len(fields) > 2 and fields[-1] == "1"
    return False


def _status_kb(pid: int, field: str) -> int:
    for line in _read(pid, "status").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no {field}")


def _all_pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""
