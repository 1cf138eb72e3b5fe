# SPDX-License-Identifier: Apache-2.0
"""`gvisor`: an application kernel between the sandbox and the host's, by runsc on its systrap platform."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from atoll_server.engine.model import RuntimeKind, SandboxId
from atoll_server.runtimes import kernel, oci
from atoll_server.runtimes.base import Capabilities, Launch, Staged
from atoll_server.runtimes.bundle import render_config

# The sandbox may bind its control socket on the host's tmpfs and connect to nothing there. Its files are cached as
# its own alone (`exclusive` for the root), writes go to the sandbox's disk through the gofer, so that a full disk is
# ENOSPC inside and not a fault of the kernel that serves it.
_OPTIONS: Sequence[str] = (
    "--platform=systrap",
    "--host-uds=create",
    "--ignore-cgroups",
    "--overlay2=none",
)
# Its kernel and what runs on it hand work to each other all the time, each waking the other for every system call.
# Where who wakes pushes who runs aside (SCHED_OTHER), `exec` takes half as long again. And it looks every millisecond
# whether it should wait for the next call busily (systrap's fast path), which was 3 % of a processor for a sandbox at
# rest; timers that may be 3 ms late leave a third of that. With 4 ms it is an eighth less, and downloads are a seventh
# slower.
_PACE = oci.Pace(os.SCHED_BATCH, timer_slack=3_000_000)
_OLDEST_RELEASE = 20230601
ADVICE = "install the package runsc from your distribution's backports (Debian 12's own is too old)"


def find_fault(version: str | None) -> str | None:
    """Why the runsc that calls itself `version` cannot be used, in words that follow its name; None where it can.

    A release says its date. One without a date is a build of one's own, and taken as new.
    """
    if version is None:
        return "does not answer"
    if not version.startswith("version "):
        return f"says {version[:80]!r} when asked for its version"
    release = re.search(r"\b(20\d{6})\b", version)
    if release is not None and int(release.group(1)) < _OLDEST_RELEASE:
        return f"{version} is too old: it knows only ptrace, and systrap is needed"
    return None


class Runsc:
    """The `gvisor` runtime."""

    kind = RuntimeKind.GVISOR
    capabilities = Capabilities(
        isolation="gvisor (runsc, systrap): a kernel of its own in user space",
        user_namespace=False,
        memory_overhead_mb=256,
        # To the host a gVisor sandbox is one program, which its kernel would kill as a whole.
        kills_for_memory=False,
        # Its threads at rest are about thirty, more with each processor; without one that it needs it ends.
        pids_overhead=128,
        is_restless=True,
        joins_network=True,
    )

    def __init__(self, program: str, paths: oci.Paths) -> None:
        self._program = program
        self._paths = paths
        self._starter = oci.Starter(program, paths)

    def start(self, launch: Launch) -> int:
        return self._starter.start(launch, lambda staged: self._order(launch, staged))

    def forget(self, sandbox_id: SandboxId) -> None:
        # `runsc delete` took two seconds where this takes none: its notes are a few files named after the sandbox.
        for pattern in (f"{sandbox_id}_*", f"runsc-{sandbox_id}.sock"):
            for file in self._paths.state.glob(pattern):
                file.unlink(missing_ok=True)

    def _order(self, launch: Launch, staged: Staged) -> oci.Order:
        # With a network of its own it takes the interfaces of its namespace over, with their addresses and routes.
        network = "--network=none" if launch.network is None else "--network=sandbox"
        if launch.network is not None:
            _hide_network_settings()
        argv = (
            *(self._program, f"--root={self._paths.state}", *_OPTIONS, network, "run", "--detach"),
            *(f"--pid-file={staged.pid_file}", f"--bundle={staged.bundle}", launch.sandbox_id),
        )
        return oci.Order(render_config(launch, staged), argv, pace=_PACE)


def _hide_network_settings() -> None:
    """Have runsc, in its private mounts, see that its network namespace is not the host's.

    It takes a namespace with `net.core.rmem_default` for the host's, and refuses that; on newer kernels all have it
    (google/gvisor issue 10704). What is below `net` differs by namespace, so that a mount must lie on `net` itself.
    """
    kernel.mount("tmpfs", "/proc/sys/net", "tmpfs", kernel.MS_RDONLY, "size=4k,mode=0555")
