# SPDX-License-Identifier: Apache-2.0
"""The baselines: the same OCI runtimes without Atoll, on a bundle comparable to ours."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from atoll_server.runtimes import kernel

TRUE = ["/bin/sh", "-c", "true"]
FOREVER = ["/bin/sleep", "infinity"]

_USR_LINKS = ("bin", "sbin", "lib", "lib64")
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount")
_FLAGS = {
    "crun": ("--cgroup-manager=disabled",),
    "runsc": ("--platform=systrap", "--network=none", "--ignore-cgroups", "--overlay2=none"),
}
_TIMEOUT = 60


def run_on_host() -> None:
    """What everything is compared with: the same command as a program of the host."""
    subprocess.run(TRUE, check=True)


class BareRuntime:
    """`crun` or `runsc` on its own. Its commands run from threads whose mount namespace hides a hybrid host's v2 tree,

    without which crun refuses to start; the namespace is entered once, so that it costs the baseline nothing.
    """

    def __init__(self, program: str, *, threads: int = 1) -> None:
        self.program = program
        self._directory = Path(tempfile.mkdtemp(prefix="atoll-bare-"))
        self._numbers = itertools.count()
        self._threads = ThreadPoolExecutor(threads, initializer=_enter_private_mounts)
        self._rootfs = self._directory / "rootfs"
        _make_rootfs(self._rootfs)

    def bundle(self, argv: Sequence[str]) -> Path:
        """A bundle that runs `argv` over the host's /usr, in the namespaces that a sandbox has."""
        bundle = self._directory / f"bundle-{next(self._numbers)}"
        bundle.mkdir()
        config = render_config(self._rootfs, argv, user_namespace=self.program == "crun")
        (bundle / "config.json").write_text(json.dumps(config))
        return bundle

    def run(self, bundle: Path) -> None:
        """Create, run to the end, and delete: one cycle."""
        self._do("run", "--bundle", str(bundle), self._new_name())

    def start(self, bundle: Path) -> str:
        """Start in the background and return the container's name."""
        name = self._new_name()
        self._do("run", "--detach", "--bundle", str(bundle), name)
        return name

    def exec(self, name: str, argv: Sequence[str]) -> None:
        """Run a command in a started container, with the runtime's own `exec`."""
        self._do("exec", name, *argv)

    def delete(self, name: str) -> None:
        """End a started container."""
        self._do("delete", "--force", name)

    def __enter__(self) -> BareRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _new_name(self) -> str:
        return f"atoll-bare-{os.getpid()}-{next(self._numbers)}"

    def _do(self, verb: str, *arguments: str) -> None:
        command = [
            self.program,
            f"--root={self._directory / 'state'}",
            *_FLAGS[self.program],
            verb,
            *arguments,
        ]
        # No pipes: a detached container would hold them open.
        self._threads.submit(
            subprocess.run,
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=_TIMEOUT,
        ).result()


def _enter_private_mounts() -> None:
    kernel.enter_private_mounts()
    kernel.unmount("/sys/fs/cgroup/unified")


def _make_rootfs(rootfs: Path) -> None:
    for name in ("usr", "etc", "dev", "proc", "sys", "tmp", "root", "workspace"):
        (rootfs / name).mkdir(parents=True)
    for name in _USR_LINKS:
        if Path("/", name).is_symlink():
            (rootfs / name).symlink_to(Path("usr", name))
    # Root inside is not root outside: it must be able to enter.
    for path in (rootfs.parent, rootfs, *rootfs.iterdir()):
        if not path.is_symlink():
            path.chmod(0o755)


def render_config(rootfs: Path, argv: Sequence[str], *, user_namespace: bool) -> dict[str, Any]:
    """An OCI configuration with the isolation of a sandbox, less what only Atoll adds: disk, limits, agent."""
    namespaces = [{"type": kind} for kind in (*_NAMESPACES, *(["user"] if user_namespace else []))]
    mapping = [{"containerID": 0, "hostID": 100_000, "size": 65_536}]
    linux: dict[str, Any] = {"namespaces": namespaces}
    if user_namespace:
        linux |= {"uidMappings": mapping, "gidMappings": mapping}
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(rootfs), "readonly": True},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(argv),
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755"],
            },
            {
                "destination": "/tmp",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "nodev"],
            },
            {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
        ],
        "linux": linux,
    }
