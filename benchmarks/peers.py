# SPDX-License-Identifier: Apache-2.0
"""What other products on this machine take for the same: docker and podman by their command lines, where they are.

All run the same small tree of the host's own programs: nothing is fetched, and no image of the user's is touched.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare import FOREVER, TRUE
from tests.support.trees import make_tree

_IMAGE = "atoll-bench"
_TIMEOUT = 60
# Podman's own defaults are above what root may have on a host without CAP_SYS_RESOURCE.
_PODMAN_LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
# Its crun refuses hosts with both versions of control groups; runc does not.
_PODMAN_RUNTIMES: Sequence[tuple[str, ...]] = ((), ("--runtime=runc",))


@dataclass(frozen=True)
class Peer:
    """A program and its general options, and what its `run` needs to find the tree; or why there is none."""

    name: str
    command: tuple[str, ...] = ()
    root: tuple[str, ...] = ()
    missing: str = ""

    def run(self) -> None:
        """Create, run a command to its end, and delete: one cycle."""
        _do(self._run("--rm", command=TRUE))

    def start(self) -> str:
        """Start a container in the background and return its id."""
        return _do(self._run("--detach", command=FOREVER))

    def exec(self, container: str) -> None:
        """Run a command in it."""
        _do([*self.command, "exec", container, *TRUE])

    def delete(self, container: str) -> None:
        """End and remove it."""
        _do([*self.command, "rm", "--force", container])

    def _run(self, option: str, *, command: Sequence[str]) -> list[str]:
        return [*self.command, "run", option, "--network=none", *self.root, *command]


@contextmanager
def find_peers() -> Iterator[tuple[Peer, ...]]:
    """Every peer, those that are missing too. What was made for them is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="atoll-peers-") as directory:
        tree = make_tree(Path(directory, "tree"), marker="bench")
        with _docker(tree) as docker:
            yield docker, _podman(tree)


@contextmanager
def _docker(tree: Path) -> Iterator[Peer]:
    if shutil.which("docker") is None:
        yield Peer("docker", missing="not installed")
    elif not _answers(["docker", "version", "--format", "{{.Server.Version}}"]):
        yield Peer("docker", missing="no daemon")
    else:
        archive = shutil.make_archive(str(tree.parent / "image"), "tar", tree)
        _do(["docker", "import", archive, _IMAGE])
        try:
            yield Peer("docker", ("docker",), (_IMAGE,))
        finally:
            _do(["docker", "image", "rm", "--force", _IMAGE])


def _podman(tree: Path) -> Peer:
    if shutil.which("podman") is None:
        return Peer("podman", missing="not installed")
    root = (*_PODMAN_LIMITS, "--rootfs", str(tree))
    for options in _PODMAN_RUNTIMES:
        peer = Peer("podman", ("podman", *options), root)
        if _answers(peer._run("--rm", command=TRUE)):
            return peer
    return Peer("podman", missing="cannot run here")


def _do(command: Sequence[str]) -> str:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=True,
    )
    return done.stdout.strip()


def _answers(command: Sequence[str]) -> bool:
    try:
        _do(command)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
