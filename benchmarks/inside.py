# SPDX-License-Identifier: Apache-2.0
"""What the agent costs, as the sandbox's own kernel tells."""

from __future__ import annotations

from atoll import Sandbox

TICKS_PER_SECOND = 100
"""Of `/proc`'s processor times on every Linux, and in gVisor."""


def agent_seconds(sandbox: Sandbox) -> float:
    """The processor time that the agent has taken, its ended threads included and its children not.

    gVisor counts what a program waits for a processor of the host as the program's: on a busy host its agent takes
    several times what the host has given to the whole sandbox.
    """
    return parse_processor_seconds(sandbox.exec(["cat", "/proc/1/stat"], check=True).stdout)


def agent_mb(sandbox: Sandbox) -> float:
    """The agent's resident memory, its program's own pages included."""
    return parse_resident_mb(sandbox.exec(["cat", "/proc/1/status"], check=True).stdout)


def parse_processor_seconds(stat: str) -> float:
    """User's and system's time of a `/proc/PID/stat`."""
    # The name before it is in parentheses, and may hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def parse_resident_mb(status: str) -> float:
    """The resident memory of a `/proc/PID/status`, in MiB."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no VmRSS in {status[:200]!r}")
