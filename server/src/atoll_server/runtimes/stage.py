# SPDX-License-Identifier: Apache-2.0
"""Putting a sandbox's root file system together, in a mount namespace that dies with the sandbox.

Every mount made here is seen only by the runtime started afterwards on the same thread. When its last process ends,
the kernel takes the mounts down and frees the loop device: there is nothing to undo and nothing to leave behind.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from atoll_server.runtimes import kernel
from atoll_server.runtimes.base import Launch, Staged, Tree
from atoll_server.runtimes.bundle import AGENT_PATH

STAGE = Path("/run/atoll/stage")

_STAGE_SIZE = "size=1m,nr_inodes=1k,mode=0755"
# A sandbox's root is nobody on the host, and must pass through what is made here.
_UMASK = 0o022
_LAYER_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV
# What is deleted inside is freed on the host; inode tables are not written out in the background (megabytes each).
_DISK_OPTIONS = "discard,noinit_itable"


def build_stage(launch: Launch, *, agent: Path) -> Staged:
    """Enter a private mount namespace and build the root there.

    The calling thread stays in that namespace; see `kernel.enter_private_mounts`. Everything lies below one path that
    every user may pass through, as a sandbox's root is nobody on the host, wherever the server keeps its things.
    """
    kernel.enter_private_mounts()
    # The thread has left the others' umask with their mounts: this is its own, and that of the runtime it starts.
    os.umask(_UMASK)
    STAGE.mkdir(mode=0o755, parents=True, exist_ok=True)
    _hide_unified_cgroups()
    kernel.mount("tmpfs", str(STAGE), "tmpfs", _LAYER_FLAGS, _STAGE_SIZE)
    disk, root, control = (STAGE / name for name in ("disk", "root", "control"))
    for directory in (disk, root, control):
        directory.mkdir()
    _mount_disk(launch.disk, disk)
    for number, tree in enumerate(launch.root.trees):
        _mount_tree(
            launch, tree, lower=STAGE / f"lower-{number}", upper=disk / str(number), root=root
        )
    kernel.bind(str(agent), f"{root}{AGENT_PATH}", kernel.MS_RDONLY | _LAYER_FLAGS)
    kernel.bind(str(launch.control), str(control))
    return Staged(STAGE, root, control)


def make_passable(directory: Path, *, mode: int = 0o711) -> None:
    """Make a directory that every user may pass through, whatever the umask, with those above it that are missing."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        path.chmod(mode)
    directory.chmod(mode)


def _hide_unified_cgroups() -> None:
    """On a hybrid host, take the v2 tree out of sight: crun refuses to start where it sees both versions."""
    kernel.unmount("/sys/fs/cgroup/unified")


def _mount_disk(image: Path, target: Path) -> None:
    device, descriptor = kernel.attach_loop(image)
    try:
        kernel.mount(device, str(target), "ext4", _LAYER_FLAGS, _DISK_OPTIONS)
    finally:
        os.close(descriptor)


def _mount_tree(launch: Launch, tree: Tree, *, lower: Path, upper: Path, root: Path) -> None:
    """Overlay one tree with a writable layer. Its files keep their owners' numbers, shifted into the id range."""
    lower.mkdir()
    lowers = [lower / str(number) for number in range(len(tree.layers))]
    for layer, place in zip(tree.layers, lowers, strict=True):
        place.mkdir()
        kernel.attach_copy(str(layer), str(place), user_namespace=launch.user_namespace)
    files, work = upper / "files", upper / "work"
    owner = launch.ids.first if launch.ids else 0
    source = os.stat(tree.layers[0])
    for directory in (upper, files, work):
        directory.mkdir(exist_ok=True)
    os.chown(files, owner + source.st_uid, owner + source.st_gid)
    os.chmod(files, source.st_mode & 0o7777)
    options = f"lowerdir={':'.join(map(str, lowers))},upperdir={files},workdir={work}"
    target = str(root) if tree.target == "/" else f"{root}{tree.target}"
    kernel.mount("overlay", target, "overlay", _LAYER_FLAGS, options)


def place_program(staged: Staged, program: str) -> Path:
    """Show a program of the host beside the root, where nobody can write to it, not even by a process that runs it."""
    placed = staged.bundle / "program"
    placed.touch()
    kernel.bind(shutil.which(program) or program, str(placed), kernel.MS_RDONLY | _LAYER_FLAGS)
    return placed
