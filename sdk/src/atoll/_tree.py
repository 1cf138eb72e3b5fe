# SPDX-License-Identifier: Apache-2.0
"""Members of a hostile archive, made beneath one directory and nowhere else.

Names are taken apart and checked, every directory on the way must be a real one, files are made anew, links come last
and stay inside.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from pathlib import Path

from .errors import UnsafeArchive

MAX_SKIPPED = 1000
MAX_MTIME = 2**40
"""Far beyond any file's, within what file systems take."""
FILE_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


class Tree:
    """Makes files, directories and links. `skipped` names members that are neither, and links that lead elsewhere."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = Path(os.path.realpath(root))
        self._real: set[tuple[str, ...]] = {()}
        self._files: set[tuple[str, ...]] = set()
        self._links: list[tuple[tuple[str, ...], str]] = []
        self._file: int | None = None
        self._opened: tarfile.TarInfo | None = None
        self.skipped: list[str] = []

    def open_file(self, member: tarfile.TarInfo) -> None:
        parts = _split(member.name)
        path = self._place(parts)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._file = os.open(path, flags, 0o600)
        self._opened = member
        self._files.add(parts)

    def write(self, data: memoryview) -> None:
        assert self._file is not None, "a file was opened before its data"
        while data:
            data = data[os.write(self._file, data) :]

    def close_file(self) -> None:
        file, self._file = self._file, None
        if file is None or self._opened is None:
            return
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(file, (self._opened.mode & 0o777) | 0o600)
            if os.utime in os.supports_fd:
                mtime = min(max(0, int(self._opened.mtime)), MAX_MTIME)
                with contextlib.suppress(OSError):  # not every file system takes every time
                    os.utime(file, (mtime, mtime))
        finally:
            os.close(file)

    def make(self, member: tarfile.TarInfo) -> None:
        if member.type == tarfile.DIRTYPE or member.type in FILE_TYPES:
            self._make_directory(_split(member.name, may_be_root=True))
        elif member.type == tarfile.LNKTYPE:
            self._make_hard_link(member)
        elif member.type == tarfile.SYMTYPE and _stays_inside(member):
            self._links.append((_split(member.name), member.linkname))
        elif len(self.skipped) < MAX_SKIPPED:
            self.skipped.append(member.name)

    def make_links(self) -> None:
        """Last, so that no name of the archive could lead through one."""
        for parts, target in self._links:
            os.symlink(target, self._place(parts))

    def _make_hard_link(self, member: tarfile.TarInfo) -> None:
        source = _split(member.linkname)
        if source not in self._files:
            raise UnsafeArchive(f"{member.name!r:.200} links to what is not in the archive")
        parts = _split(member.name)
        if parts == source:
            raise UnsafeArchive(f"{member.name!r:.200} links to itself")
        os.link(self._root.joinpath(*source), self._place(parts))
        self._files.add(parts)

    def _place(self, parts: tuple[str, ...]) -> Path:
        """Where to make a file or link: its parents are there and real, its name is free."""
        self._make_directory(parts[:-1])
        path = self._root.joinpath(*parts)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return path
        if stat.S_ISDIR(status.st_mode):
            raise UnsafeArchive(f"{str(path)!r:.200} is a directory already")
        self._files.discard(parts)
        os.unlink(path)
        return path

    def _make_directory(self, parts: tuple[str, ...]) -> None:
        if parts in self._real:
            return
        for end in range(1, len(parts) + 1):
            if parts[:end] in self._real:
                continue
            path = self._root.joinpath(*parts[:end])
            with contextlib.suppress(FileExistsError):
                path.mkdir()
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise UnsafeArchive(
                    f"{str(path)!r:.200} is no directory, and something goes into it"
                )
            self._real.add(parts[:end])


def _split(name: str, *, may_be_root: bool = False) -> tuple[str, ...]:
    """The parts of a member's name, or `UnsafeArchive` where it is none that stays inside."""
    separators = ("/", "\\") if os.name == "nt" else ("/",)
    for separator in separators:
        name = name.replace(separator, "/")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    bad = name.startswith("/") or ".." in parts or "\0" in name or (os.name == "nt" and ":" in name)
    if bad or not (parts or may_be_root):
        raise UnsafeArchive(f"the archive holds the name {name!r:.200}")
    return parts


def _stays_inside(member: tarfile.TarInfo) -> bool:
    """Whether a link leads nowhere but beneath the directory, also by way of other such links.

    `..` may only stand first: from the link's own directory, which is real, it is exact. After a name it could step
    back out of another link.
    """
    target = member.linkname
    if not target or target.startswith("/") or "\0" in target or os.name == "nt":
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    return ups < len(_split(member.name)) and ".." not in parts[ups:]
