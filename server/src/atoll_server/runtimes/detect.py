# SPDX-License-Identifier: Apache-2.0
"""Which runtimes this host has."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from atoll_server.engine.model import RuntimeKind
from atoll_server.runtimes.base import Runtime
from atoll_server.runtimes.container import Crun, Runc
from atoll_server.runtimes.gvisor import Runsc
from atoll_server.runtimes.oci import Paths

# The order of preference among programs for one kind.
_PROGRAMS = (("runsc", Runsc), ("crun", Crun), ("runc", Runc))


def find_runtimes(*, agent: Path, run: Path) -> Mapping[RuntimeKind, Runtime]:
    """The runtimes whose programs are installed, in the order in which `auto` takes them. Makes their directories."""
    found: dict[RuntimeKind, Runtime] = {}
    for name, driver in _PROGRAMS:
        program = shutil.which(name)
        if program is not None and driver.kind not in found:
            state = run / name
            state.mkdir(mode=0o711, parents=True, exist_ok=True)
            found[driver.kind] = driver(program, Paths(agent=agent, state=state))
    return found
