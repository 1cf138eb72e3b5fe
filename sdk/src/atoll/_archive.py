# SPDX-License-Identifier: Apache-2.0
"""Directories as tar, both ways, without holding them in memory.

What comes from a sandbox is hostile. Nothing of the standard library's extraction is used: headers are read here, with
limits, and members made by `Tree`.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ._tree import FILE_TYPES, Tree
from .errors import UnsafeArchive

CHUNK_BYTES = 1024 * 1024
BLOCK = 512
MAX_ENTRIES = 1_000_000
MAX_META_BYTES = 1024 * 1024

_LONG_NAME_TYPES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE)


@dataclass(frozen=True)
class DirectoryDownloaded:
    """What `download_dir` made. `skipped` names what was left out: devices, and links that lead elsewhere."""

    entries: int
    size_bytes: int
    skipped: tuple[str, ...]


def pack(directory: str | os.PathLike[str]) -> Iterator[bytes]:
    """A tar of the directory's content, in large pieces. Links stay links; sockets, pipes, devices are left out.

    Owners are not kept: they mean nothing on the other side. Raises `OSError` where something cannot be read.
    """
    root = Path(directory)
    if not root.is_dir():
        raise NotADirectoryError(f"not a directory: {os.fspath(directory)!r}")
    held: list[bytes] = []
    size = 0
    for block in _pack_blocks(root):
        held.append(block)
        size += len(block)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join((*held, bytes(2 * BLOCK)))


def _pack_blocks(root: Path) -> Iterator[bytes]:
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(root / inside) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            name = f"{inside}/{entry.name}" if inside else entry.name
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                waiting.append(name)
                yield _header(name, status, tarfile.DIRTYPE)
            elif stat.S_ISLNK(status.st_mode):
                yield _header(name, status, tarfile.SYMTYPE, link=os.readlink(entry.path))
            elif stat.S_ISREG(status.st_mode):
                yield from _pack_file(name, entry.path)


def _pack_file(name: str, path: str) -> Iterator[bytes]:
    # O_NOFOLLOW: what was a file a moment ago may be a link now.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        yield _header(name, status, tarfile.REGTYPE, size=status.st_size)
        left = status.st_size
        while left:
            chunk = file.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise OSError(f"{path!r} became shorter while it was read")
            left -= len(chunk)
            yield chunk
    yield bytes(-status.st_size % BLOCK)


def _header(
    name: str, status: os.stat_result, kind: bytes, *, size: int = 0, link: str = ""
) -> bytes:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.size = size
    member.linkname = link
    member.mode = stat.S_IMODE(status.st_mode) & 0o777
    member.mtime = max(0, int(status.st_mtime))
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class Unpacker:
    """Takes a hostile tar in chunks with borders anywhere, and makes its members beneath one directory.

    `max_bytes` bounds what is written. Raises `UnsafeArchive`; what was made before stays, in the directory.
    """

    def __init__(self, directory: str | os.PathLike[str], *, max_bytes: int) -> None:
        self._tree = Tree(Path(directory))
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._held = b""
        self._data_left = 0
        self._padding = 0
        self._meta: tarfile.TarInfo | None = None
        self._pax: dict[str, str] = {}
        self._ended = False
        self._entries = 0

    def feed(self, chunk: bytes) -> None:
        """Makes what is known once `chunk` has come."""
        data = self._held + chunk if self._held else chunk
        at = 0
        while not self._ended:
            taken = self._step(memoryview(data)[at:])
            if taken is None:
                break
            at += taken
        # Nothing after the end means anything.
        self._held = b"" if self._ended else data[at:]

    def finish(self) -> DirectoryDownloaded:
        """Makes the links and says what was made. Raises `UnsafeArchive` where the archive has no end."""
        if not self._ended:
            raise UnsafeArchive("the archive ends too early")
        self._tree.close_file()
        self._tree.make_links()
        return DirectoryDownloaded(
            entries=self._entries,
            size_bytes=self._max_bytes - self._left,
            skipped=tuple(self._tree.skipped),
        )

    def close(self) -> None:
        """Closes the file being written, if any. May be repeated."""
        self._tree.close_file()

    def _step(self, view: memoryview) -> int | None:
        """How much of `view` was used; None where more is needed."""
        if self._meta is not None:
            return self._read_meta(self._meta, view)
        if self._data_left:
            taken = min(self._data_left, len(view))
            if not taken:
                return None
            self._tree.write(view[:taken])
            self._data_left -= taken
            return taken
        if len(view) < self._padding + BLOCK:
            return None
        skipped, self._padding = self._padding, 0
        self._tree.close_file()
        self._read_header(bytes(view[skipped : skipped + BLOCK]))
        return skipped + BLOCK

    def _read_header(self, block: bytes) -> None:
        if not block.strip(b"\0"):
            self._ended = True
            return
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise UnsafeArchive(f"malformed archive: {error}") from None
        if member.type in _PAX_TYPES + _LONG_NAME_TYPES:
            if not 0 <= member.size <= MAX_META_BYTES:
                raise UnsafeArchive(f"a header of {member.size} bytes in the archive")
            self._meta = member
            return
        self._make(self._with_pax(member))

    def _read_meta(self, meta: tarfile.TarInfo, view: memoryview) -> int | None:
        padded = meta.size + -meta.size % BLOCK
        if len(view) < padded:
            return None
        self._meta = None
        content = bytes(view[: meta.size])
        if meta.type == tarfile.GNUTYPE_LONGNAME:
            self._pax["path"] = _name(content.rstrip(b"\0"))
        elif meta.type == tarfile.GNUTYPE_LONGLINK:
            self._pax["linkpath"] = _name(content.rstrip(b"\0"))
        elif meta.type == tarfile.XHDTYPE:
            self._pax.update(_parse_pax(content))
        return padded

    def _with_pax(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        pax, self._pax = self._pax, {}
        member.name = pax.get("path", member.name)
        member.linkname = pax.get("linkpath", member.linkname)
        try:
            member.size = int(pax.get("size", member.size))
            member.mtime = int(float(pax.get("mtime", member.mtime)))
        except (ValueError, OverflowError):
            raise UnsafeArchive("a malformed number in the archive") from None
        return member

    def _make(self, member: tarfile.TarInfo) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise UnsafeArchive(f"more than {MAX_ENTRIES} entries in the archive")
        if member.type in FILE_TYPES and not member.name.endswith("/"):
            if not 0 <= member.size <= self._left:
                raise UnsafeArchive(f"the archive holds more than {self._max_bytes} bytes")
            self._left -= member.size
            self._data_left = member.size
            self._padding = -member.size % BLOCK
            self._tree.open_file(member)
            return
        if member.size:
            # Nothing else has content; where something claims to, the two sides would read differently.
            raise UnsafeArchive(f"{member.name!r:.200} is no file and has content")
        self._tree.make(member)


def _parse_pax(content: bytes) -> dict[str, str]:
    """The records `length key=value` that matter here."""
    found: dict[str, str] = {}
    while content.strip(b"\0"):
        length, space, _ = content.partition(b" ")
        if not space or not length.isdigit() or len(length) > 7:
            raise UnsafeArchive("a malformed header in the archive")
        end = int(length)
        record, content = content[len(length) + 1 : end], content[end:]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise UnsafeArchive("a malformed header in the archive")
        if key.startswith(b"GNU.sparse"):
            raise UnsafeArchive("a sparse file in the archive")
        if key in (b"path", b"linkpath", b"size", b"mtime"):
            found[key.decode()] = _name(value[:-1])
    return found


def _name(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
