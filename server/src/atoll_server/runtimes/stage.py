# SPDX-License-Identifier: Apache-2.0
"""Putting a sandbox's root file system together, in a mount namespace that dies with the sandbox.

Every mount made here is seen only by the runtime started afterwards on the same thread. When its last process ends,
the kernel takes the mounts down and frees the loop device: there is nothing to undo and nothing to leave behind.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from atoll_server.runtimes import kernel
from atoll_server.runtimes.backdrop import Backdrop
from atoll_server.runtimes.base import Launch, Staged, Tree
from atoll_server.runtimes.bundle import AGENT_PATH
from atoll_server.runtimes.disk import Layer

STAGE = Path("/run/atoll/stage")

_STAGE_SIZE = "size=1m,nr_inodes=1k,mode=0755"
# A sandbox's root is nobody on the host, and must pass through what is made here.
_UMASK = 0o022
_LAYER_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV
_READ_ONLY_FLAGS = kernel.MS_RDONLY | _LAYER_FLAGS
# What is deleted inside is freed on the host; inode tables are not written out in the background (megabytes each).
_DISK_OPTIONS = "discard,noinit_itable"


@dataclass(frozen=True)
class _Tree:
    """A tree of the root: its layers, which are descriptors of mounts, and who its directory belongs to."""

    layers: Sequence[int]
    target: str
    top: os.stat_result


@dataclass(frozen=True)
class _Props:
    """What a stage is made of, taken from the host's mounts: descriptors, and the name of the disk's device."""

    disk: str
    trees: Sequence[_Tree]
    agent: int
    control: int


def make_backdrop(*needed: Path) -> Backdrop:
    """One that stages can be built in front of; `needed` is what the runtime has to find."""
    return Backdrop(STAGE, *needed)


def make_place() -> None:
    """Have the directory that stages are mounted on, each in a namespace of its own."""
    if not STAGE.exists():
        make_passable(STAGE, mode=0o755)


def build_stage(launch: Launch, *, agent: Path, backdrop: Backdrop) -> Staged:
    """Enter a private mount namespace and build the root there.

    The calling thread stays in that namespace; see `Backdrop.enter`. Everything lies below one path that
    every user may pass through, as a sandbox's root is nobody on the host, wherever the server keeps its things.
    """
    make_place()
    with ExitStack() as held:
        props = _take_props(launch, agent, held)
        backdrop.enter()
        # The thread has left the others' umask with their mounts: this is its own, and that of the runtime it starts.
        os.umask(_UMASK)
        return _set_up(props, launch.ids.first if launch.ids else 0)


def _take_props(launch: Launch, agent: Path, held: ExitStack) -> _Props:
    def hold(descriptor: int) -> int:
        held.callback(os.close, descriptor)
        return descriptor

    def take_tree(tree: Tree) -> _Tree:
        layers = [
            hold(
                kernel.take_copy(
                    str(layer), user_namespace=launch.user_namespace, flags=_READ_ONLY_FLAGS
                )
            )
            for layer in tree.layers
        ]
        return _Tree(layers, tree.target, os.stat(tree.layers[0]))

    device, descriptor = kernel.attach_loop(launch.disk)
    hold(descriptor)
    return _Props(
        device,
        [take_tree(tree) for tree in launch.root.trees],
        hold(kernel.take_copy(str(agent), flags=_READ_ONLY_FLAGS)),
        hold(kernel.take_copy(str(launch.control))),
    )


def _set_up(props: _Props, owner: int) -> Staged:
    kernel.mount("tmpfs", str(STAGE), "tmpfs", _LAYER_FLAGS, _STAGE_SIZE)
    disk, root, control = (STAGE / name for name in ("disk", "root", "control"))
    for directory in (disk, root, control):
        directory.mkdir()
    kernel.mount(props.disk, str(disk), "ext4", _LAYER_FLAGS, _DISK_OPTIONS)
    for number, tree in enumerate(props.trees):
        _overlay(tree, STAGE / f"lower-{number}", Layer.at(disk, number), root, owner)
    kernel.attach(props.agent, f"{root}{AGENT_PATH}")
    kernel.attach(props.control, str(control))
    return Staged(STAGE, root, control)


def make_passable(directory: Path, *, mode: int = 0o711) -> None:
    """Make a directory that every user may pass through, whatever the umask, with those above it that are missing."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        path.chmod(mode)
    directory.chmod(mode)


def _overlay(tree: _Tree, lower: Path, upper: Layer, root: Path, owner: int) -> None:
    """Lay a writable layer over one tree. Its files keep their owners' numbers, shifted to begin with `owner`."""
    lower.mkdir()
    lowers = [lower / str(number) for number in range(len(tree.layers))]
    for layer, place in zip(tree.layers, lowers, strict=True):
        place.mkdir()
        kernel.attach(layer, str(place))
    upper.make()
    os.chown(upper.files, owner + tree.top.st_uid, owner + tree.top.st_gid)
    os.chmod(upper.files, tree.top.st_mode & 0o7777)
    options = f"lowerdir={':'.join(map(str, lowers))},upperdir={upper.files},workdir={upper.work}"
    target = str(root) if tree.target == "/" else f"{root}{tree.target}"
    kernel.mount("overlay", target, "overlay", _LAYER_FLAGS, options)


def place_program(staged: Staged, program: Path) -> Path:
    """Show a program of the host beside the root, where nobody can write to it, not even by a process that runs it."""
    placed = staged.bundle / "program"
    placed.touch()
    kernel.bind(str(program), str(placed), _READ_ONLY_FLAGS)
    return placed
