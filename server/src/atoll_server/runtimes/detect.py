# SPDX-License-Identifier: Apache-2.0
"""Which runtimes this host has, and why it lacks the others."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atoll_server import host
from atoll_server.engine.model import RuntimeKind
from atoll_server.runtimes import gvisor
from atoll_server.runtimes.base import Runtime
from atoll_server.runtimes.container import Crun, Runc
from atoll_server.runtimes.gvisor import Runsc
from atoll_server.runtimes.oci import Paths
from atoll_server.runtimes.stage import make_passable

VERSION_TIMEOUT = 5.0
_CONTAINER_MISSING = "neither crun nor runc is installed: install the package crun"
# The order of preference among programs for one kind.
_CONTAINER_PROGRAMS = (("crun", Crun), ("runc", Runc))


@dataclass(frozen=True)
class Runtimes:
    """The runtimes of this host. `faults` says in words why a kind cannot be used, and what to do.

    `drivers` has those too: sandboxes that an earlier run of the server left are looked after all the same.
    """

    drivers: Mapping[RuntimeKind, Runtime]
    faults: Mapping[RuntimeKind, str]

    @property
    def usable(self) -> Mapping[RuntimeKind, Runtime]:
        """In the order in which `auto` takes them."""
        return {kind: driver for kind, driver in self.drivers.items() if kind not in self.faults}


def find_runtimes(*, agent: Path, run: Path) -> Runtimes:
    """Look for the programs, and make the directories of their notes. Blocks while runsc says its version."""

    def paths(name: str) -> Paths:
        make_passable(run / name)
        return Paths(agent=agent, state=run / name)

    runsc = find_program("runsc")
    name, driver = next(
        (entry for entry in _CONTAINER_PROGRAMS if find_program(entry[0])), _CONTAINER_PROGRAMS[0]
    )
    container = find_program(name)
    faults = {
        RuntimeKind.GVISOR: _fault_of_gvisor(runsc),
        RuntimeKind.CONTAINER: None if container else _CONTAINER_MISSING,
    }
    return Runtimes(
        drivers={
            RuntimeKind.GVISOR: Runsc(runsc or "runsc", paths("runsc")),
            RuntimeKind.CONTAINER: driver(container or name, paths(name)),
        },
        faults={kind: fault for kind, fault in faults.items() if fault is not None},
    )


def find_program(name: str) -> str | None:
    """Where a program is: on the server's own PATH, else where a system keeps such programs."""
    return shutil.which(name) or shutil.which(name, path=host.MINIMAL_ENV["PATH"])


def ask_version(program: str, *, limit: float = VERSION_TIMEOUT) -> str | None:
    """The first line of what a runtime says to `--version`, without its name; None if it does not answer in time."""
    try:
        output = host.run([program, "--version"], timeout=limit).output
    except host.HostCommandFailed:
        return None
    first = output.splitlines()[0] if output else ""
    return first.removeprefix(f"{Path(program).name} ").strip() or None


def _fault_of_gvisor(program: str | None) -> str | None:
    if program is None:
        return f"runsc is not installed: {gvisor.ADVICE}"
    fault = gvisor.find_fault(ask_version(program))
    return None if fault is None else f"runsc {fault}; {gvisor.ADVICE}"
