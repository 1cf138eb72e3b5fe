# SPDX-License-Identifier: Apache-2.0
"""No isolation at all: the agent as a plain process of the host, for tests of what does not depend on isolation.

It keeps the contract of a runtime (`tests/contracts`) and is never offered to clients.
"""

from __future__ import annotations

from pathlib import Path

from atoll_server.engine.model import RuntimeKind, SandboxId
from atoll_server.runtimes import oci
from atoll_server.runtimes.base import SOCKET_NAME, Capabilities, Launch

_IN_BACKGROUND = '"$@" & echo $! > "$0"'


class Unisolated:
    """Runs the agent directly, in the sandbox's control group."""

    kind = RuntimeKind.CONTAINER
    capabilities = Capabilities(isolation="none", user_namespace=False, memory_overhead_mb=0)

    def __init__(self, agent: Path) -> None:
        self._agent = agent

    def start(self, launch: Launch) -> int:
        pid_file = launch.disk.with_suffix(".pid")
        agent = [str(self._agent), "--socket", str(launch.control / SOCKET_NAME)]
        try:
            return oci.launch_in_group(
                launch, ["/bin/sh", "-c", _IN_BACKGROUND, str(pid_file), *agent], pid_file
            )
        finally:
            pid_file.unlink(missing_ok=True)

    def forget(self, sandbox_id: SandboxId) -> None:
        """Nothing to forget: it took no notes."""
