# SPDX-License-Identifier: Apache-2.0
"""What a directory must hold, by the changes that were told of it; and a storm of changes to tell."""

from __future__ import annotations

from collections.abc import Iterable

from atoll import ChangeKind, FileChange

STORM = """
import os, random, sys, time

root, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
draw = random.Random(seed)
directories, files, names = [root], [], iter(range(10**9))


def beneath(path, above):
    return path.startswith(above + "/")


def create():
    path = f"{draw.choice(directories)}/f{next(names)}"
    open(path, "x").close()
    files.append(path)


def make_directory():
    path = f"{draw.choice(directories)}/d{next(names)}"
    os.mkdir(path)
    directories.append(path)


def modify():
    if files:
        with open(draw.choice(files), "a") as file:
            file.write("x")


def remove():
    if files:
        os.unlink(files.pop(draw.randrange(len(files))))


def rename():
    if files:
        at = draw.randrange(len(files))
        path = f"{draw.choice(directories)}/r{next(names)}"
        os.rename(files[at], path)
        files[at] = path


def rename_directory():
    old = draw.choice(directories)
    above = draw.choice(directories)
    if old == root or above == old or beneath(above, old):
        return
    new = f"{above}/m{next(names)}"
    os.rename(old, new)
    for paths in (directories, files):
        paths[:] = [new + path[len(old):] if path == old or beneath(path, old) else path for path in paths]


def remove_directory():
    path = draw.choice(directories)
    if path != root and not any(beneath(other, path) for other in (*directories, *files)):
        os.rmdir(path)
        directories.remove(path)


verbs = [create] * 30 + [modify] * 30 + [rename] * 15 + [remove] * 22
verbs += [make_directory, rename_directory, remove_directory]
for _ in range(count):
    draw.choice(verbs)()
for number in range(600):  # until somebody has seen that it is over
    open(f"{root}/end-{number}", "x").close()
    time.sleep(0.1)
"""
"""A program: directory, number of operations, seed. At the end it makes files `end-…` until it is killed."""


def replay(changes: Iterable[FileChange]) -> dict[str, bool]:
    """What is there after these changes, each path with whether it is a directory. What cannot be is an error."""
    held: dict[str, bool] = {}
    for change in changes:
        assert change.path is not None, change
        if change.kind is ChangeKind.CREATED:
            assert change.path not in held, change
            held[change.path] = change.is_directory
        elif change.kind is ChangeKind.REMOVED:
            assert _take(held, change.path), change
        elif change.kind is ChangeKind.RENAMED:
            assert change.from_path is not None, change
            moved = _take(held, change.from_path)
            assert moved, change
            _take(held, change.path)
            held |= {change.path + beneath: kind for beneath, kind in moved.items()}
        else:
            assert change.path in held, change
    return held


def _take(held: dict[str, bool], path: str) -> dict[str, bool]:
    """What is at a path and beneath it, each by the rest of its path; it is held no longer."""
    if path not in held:
        return {}
    taken = [path]
    if held[path]:
        taken += [other for other in held if other.startswith(path + "/")]
    return {other[len(path) :]: held.pop(other) for other in taken}
