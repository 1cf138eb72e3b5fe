# SPDX-License-Identifier: Apache-2.0
"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from atoll_server.facts import collect_facts


def describe_machine() -> dict[str, str]:
    """The processor, memory, kernel and runtimes of this host, in words."""
    facts = collect_facts(Path("/var/lib/atoll"), agent=Path("/nonexistent"))
    runtimes: dict[str, str] = {
        name: f"{name} {facts.programs[name].version}"
        for name in ("crun", "runsc")
        if name in facts.programs
    }
    return {
        "processor": f"{os.cpu_count()} × {_processor()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": facts.distribution,
        "kernel": f"Linux {platform.release()}",
        "cgroups": f"cgroups {facts.cgroup}",
        "python": f"Python {platform.python_version()}",
        **runtimes,
    }


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found.group(1) if found else platform.machine()
