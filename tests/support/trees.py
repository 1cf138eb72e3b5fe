# SPDX-License-Identifier: Apache-2.0
"""A small root file system made of this host's own programs, as an operator would have one to import."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

PROGRAMS = ("sh", "cat", "df", "id", "ls", "mkdir", "readlink", "rm", "sleep", "stat", "touch")
PASSWD = "root:x:0:0::/:/bin/sh\ntree:x:1234:1234::/:/bin/sh\n"


def make_tree(root: Path, *, marker: str) -> Path:
    """A shell and some programs in `/bin`, the libraries they need, `/etc/passwd`, and `/image` that holds `marker`."""
    for name in ("bin", "etc"):
        (root / name).mkdir(parents=True)
    root.chmod(0o755)
    add_programs(root, *PROGRAMS)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "image").write_text(f"{marker}\n")
    return root


def add_programs(root: Path, *names: str) -> None:
    """More programs of this host, with the libraries they need."""
    for name in names:
        program = shutil.which(name)
        assert program is not None, f"this host has no {name}"
        shutil.copy(program, root / "bin" / name)
        for library in _libraries(program):
            target = root / library.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)


def describe_tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything about every entry that writing to the tree could have changed."""
    return {
        str(path.relative_to(root)): _describe(path) for path in sorted((root, *root.rglob("*")))
    }


def _describe(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    content = ""
    if stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    return (
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_rdev,
        status.st_mtime_ns,
        content,
    )


def _libraries(program: str) -> list[Path]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in re.findall(r"(/\S+) \(0x", listed)]
