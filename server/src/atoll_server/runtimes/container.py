# SPDX-License-Identifier: Apache-2.0
"""`container`: namespaces of the host's own kernel, made by crun or, where that is absent, runc."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atoll_server import host
from atoll_server.engine.model import RuntimeKind, SandboxId
from atoll_server.runtimes import oci
from atoll_server.runtimes.base import Capabilities, Launch, Staged
from atoll_server.runtimes.bundle import confine_to_host_kernel, render_config
from atoll_server.runtimes.cgroups import MOUNT

_DELETE_TIMEOUT = 20.0


class Crun:
    """The `container` runtime by crun, which leaves control groups to us."""

    kind = RuntimeKind.CONTAINER
    capabilities = Capabilities(
        isolation="container (crun): namespaces, user namespace, seccomp; shares the host's kernel",
        user_namespace=True,
        memory_overhead_mb=0,
    )

    def __init__(self, program: str, paths: oci.Paths) -> None:
        self._program = program
        self._paths = paths

    def start(self, launch: Launch) -> int:
        return oci.start(
            launch,
            self._paths,
            program=lambda bundle, pid_file: self._run(launch.sandbox_id, bundle, pid_file),
            configure=lambda staged: confine_to_host_kernel(render_config(launch, staged), launch),
        )

    def forget(self, sandbox_id: SandboxId) -> None:
        # `crun delete` would look for control groups that it never managed; its notes are one directory.
        shutil.rmtree(self._paths.state / sandbox_id, ignore_errors=True)

    def _run(self, sandbox_id: str, bundle: str, pid_file: Path) -> Sequence[str]:
        options = ["--root", str(self._paths.state), "--cgroup-manager=disabled"]
        return [
            self._program,
            *options,
            "run",
            "--detach",
            "--pid-file",
            str(pid_file),
            "--bundle",
            bundle,
            sandbox_id,
        ]


class Runc:
    """The `container` runtime by runc, which insists on control groups and is given ours by path."""

    kind = RuntimeKind.CONTAINER
    capabilities = Capabilities(
        isolation="container (runc): namespaces, user namespace, seccomp; shares the host's kernel",
        user_namespace=True,
        memory_overhead_mb=0,
    )

    def __init__(self, program: str, paths: oci.Paths) -> None:
        self._program = program
        self._paths = paths

    def start(self, launch: Launch) -> int:
        return oci.start(
            launch,
            self._paths,
            program=lambda bundle, pid_file: self._run(launch.sandbox_id, bundle, pid_file),
            configure=lambda staged: self._configure(launch, staged),
        )

    def forget(self, sandbox_id: SandboxId) -> None:
        # Unlike crun, runc made control groups in hierarchies that we do not use; it takes them away itself.
        if (self._paths.state / sandbox_id).exists():
            argv = [
                self._program,
                "--root",
                str(self._paths.state),
                "delete",
                "--force",
                sandbox_id,
            ]
            host.run(argv, timeout=_DELETE_TIMEOUT)

    def _configure(self, launch: Launch, staged: Staged) -> dict[str, Any]:
        config = confine_to_host_kernel(render_config(launch, staged), launch)
        directory = next(iter(launch.group.directories.values()))
        # Below MOUNT on v2, below MOUNT/<controller> on v1.
        parts = directory.relative_to(MOUNT).parts
        config["linux"]["cgroupsPath"] = "/" + "/".join(
            parts if launch.group.version == 2 else parts[1:]
        )
        return config

    def _run(self, sandbox_id: str, bundle: str, pid_file: Path) -> Sequence[str]:
        options = ["--root", str(self._paths.state)]
        return [
            self._program,
            *options,
            "run",
            "--detach",
            "--pid-file",
            str(pid_file),
            "--bundle",
            bundle,
            sandbox_id,
        ]
