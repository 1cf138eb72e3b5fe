# SPDX-License-Identifier: Apache-2.0
"""`container`: namespaces of the host's own kernel, made by crun or, where that is absent, runc."""

from __future__ import annotations

import base64
import contextlib
import shutil
from collections.abc import Sequence

from atoll_server import host
from atoll_server.engine.model import RuntimeKind, SandboxId
from atoll_server.runtimes import oci
from atoll_server.runtimes.base import Capabilities, Launch, Staged
from atoll_server.runtimes.bundle import confine_to_host_kernel, render_config
from atoll_server.runtimes.cgroups import MOUNT
from atoll_server.runtimes.stage import place_program

_DELETE_TIMEOUT = 20.0
# Lest a sandbox overwrites it through /proc (CVE-2019-5736), crun runs itself a second time from a read-only mount. It
# lets that be where it stands on one already and is told so; the loading and linking saved is a sixth of its run.
_STANDS_ON_READONLY = {"_LIBCONTAINER_CLONED_BINARY": "1"}
# A compiled filter, in base64 (crun(1)). A crun that does not know it still has the list of calls to compile.
_COMPILED_FILTER = "run.oci.seccomp_bpf_data"


class Crun:
    """The `container` runtime by crun, which leaves control groups to us."""

    kind = RuntimeKind.CONTAINER
    capabilities = Capabilities(
        isolation="container (crun): namespaces, user namespace, seccomp; shares the host's kernel",
        user_namespace=True,
        memory_overhead_mb=0,
    )

    def __init__(self, program: str, paths: oci.Paths) -> None:
        self._paths = paths
        self._starter = oci.Starter(program, paths)
        self._filter: str | None = None

    def start(self, launch: Launch) -> int:
        pid = self._starter.start(launch, lambda staged: self._order(launch, staged))
        if self._filter is None:
            self._filter = self._read_filter(launch.sandbox_id)
        return pid

    def forget(self, sandbox_id: SandboxId) -> None:
        # `crun delete` would look for control groups that it never managed; its notes are one directory.
        shutil.rmtree(self._paths.state / sandbox_id, ignore_errors=True)

    def _order(self, launch: Launch, staged: Staged) -> oci.Order:
        config = confine_to_host_kernel(render_config(launch, staged), launch, joins=True)
        if self._filter is not None:
            config["annotations"] = {_COMPILED_FILTER: self._filter}
        program = place_program(staged, self._starter.program)
        state = ["--root", str(self._paths.state), "--cgroup-manager=disabled"]
        argv = [str(program), *state, *_run_detached(launch, staged)]
        return oci.Order(config, argv, _STANDS_ON_READONLY)

    def _read_filter(self, sandbox_id: SandboxId) -> str | None:
        """What crun made of our list of calls: the same for every sandbox, and a fifth of its run to make."""
        with contextlib.suppress(FileNotFoundError):
            compiled = (self._paths.state / sandbox_id / "seccomp.bpf").read_bytes()
            return base64.b64encode(compiled).decode() or None
        return None


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
        self._starter = oci.Starter(program, paths)

    def start(self, launch: Launch) -> int:
        return self._starter.start(launch, lambda staged: self._order(launch, staged))

    def forget(self, sandbox_id: SandboxId) -> None:
        # Unlike crun, runc made control groups in hierarchies that we do not use; it takes them away itself.
        if (self._paths.state / sandbox_id).exists():
            state = ["--root", str(self._paths.state)]
            host.run(
                [self._program, *state, "delete", "--force", sandbox_id], timeout=_DELETE_TIMEOUT
            )

    def _order(self, launch: Launch, staged: Staged) -> oci.Order:
        # It sets limits from outside, for which it must own the namespace where the host's root lacks CAP_SYS_RESOURCE.
        config = confine_to_host_kernel(render_config(launch, staged), launch, joins=False)
        config["linux"]["cgroupsPath"] = _cgroups_path(launch)
        state = ["--root", str(self._paths.state)]
        return oci.Order(config, [self._program, *state, *_run_detached(launch, staged)])


def _run_detached(launch: Launch, staged: Staged) -> Sequence[str]:
    files = ("--pid-file", str(staged.pid_file), "--bundle", str(staged.bundle))
    return ("run", "--detach", *files, launch.sandbox_id)


def _cgroups_path(launch: Launch) -> str:
    """The sandbox's group as OCI names it: from the root of its hierarchy, of which v1 has one for each controller."""
    parts = next(iter(launch.group.directories.values())).relative_to(MOUNT).parts
    return "/" + "/".join(parts if launch.group.version == 2 else parts[1:])
