# SPDX-License-Identifier: Apache-2.0
"""`gvisor`: an application kernel between the sandbox and the host's, by runsc on its systrap platform."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atoll_server.engine.model import RuntimeKind, SandboxId
from atoll_server.runtimes import oci
from atoll_server.runtimes.base import Capabilities, Launch
from atoll_server.runtimes.bundle import render_config

# The sandbox may bind its control socket on the host's tmpfs and connect to nothing there. Its files are cached as
# its own alone (`exclusive` for the root), writes go to the sandbox's disk through the gofer, so that a full disk is
# ENOSPC inside and not a fault of the kernel that serves it.
_OPTIONS: Sequence[str] = (
    "--platform=systrap",
    "--network=none",
    "--host-uds=create",
    "--ignore-cgroups",
    "--overlay2=none",
)


class Runsc:
    """The `gvisor` runtime."""

    kind = RuntimeKind.GVISOR
    capabilities = Capabilities(
        isolation="gvisor (runsc, systrap): a kernel of its own in user space",
        user_namespace=False,
        memory_overhead_mb=256,
        # To the host a gVisor sandbox is one program, which its kernel would kill as a whole.
        kills_for_memory=False,
    )

    def __init__(self, program: str, paths: oci.Paths) -> None:
        self._program = program
        self._paths = paths

    def start(self, launch: Launch) -> int:
        return oci.start(
            launch,
            self._paths,
            program=lambda bundle, pid_file: self._run(launch.sandbox_id, bundle, pid_file),
            configure=lambda staged: render_config(launch, staged),
        )

    def forget(self, sandbox_id: SandboxId) -> None:
        # `runsc delete` took two seconds where this takes none: its notes are a few files named after the sandbox.
        for pattern in (f"{sandbox_id}_*", f"runsc-{sandbox_id}.sock"):
            for file in self._paths.state.glob(pattern):
                file.unlink(missing_ok=True)

    def _run(self, sandbox_id: str, bundle: str, pid_file: Path) -> Sequence[str]:
        options = [f"--root={self._paths.state}", *_OPTIONS]
        return [
            self._program,
            *options,
            "run",
            "--detach",
            f"--pid-file={pid_file}",
            f"--bundle={bundle}",
            sandbox_id,
        ]
