# SPDX-License-Identifier: Apache-2.0
"""A sandbox's disk: a sparse ext4 image, whose size is the disk limit.

Formatting costs more than copying, so an empty image is formatted once per size and copied, data extents only. There
is as little of that as can be (92 KiB for 10 GiB): what is copied is also written out before a loop device takes it.
The directories of its writable layers are there already: making them would cost more than they do as bytes.
"""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from atoll_server import host

_FORMAT_TIMEOUT = 60.0
_COPY_PIECE = 1 << 24
# Templates of another layout, left by an older server, are not used.
_LAYOUT_VERSION = 3
# No journal and no spare superblocks: a disk does not outlive its sandbox's processes. No room to grow: it is as large
# as it will be. Inode tables stay unwritten until used.
# Small ones have blocks of 4096 bytes as large ones do: with the smaller that they would be given they do not mount.
_LAYOUT = (
    *("-b", "4096"),
    *("-O", "^has_journal,^resize_inode,sparse_super2"),
    *("-E", "num_backup_sb=0,lazy_itable_init=1,nodiscard"),
    *("-m", "0"),
    *("-i", "16384"),
)


# The host's `/usr` apart from the rest: no image is put together from more.
_LAYERS = 2


@dataclass(frozen=True)
class Layer:
    """Where on a disk an overlay writes: what is written, and what it does meanwhile."""

    files: Path
    work: Path

    @classmethod
    def at(cls, disk: Path, number: int) -> Layer:
        """That of the tree with this number, on a disk that is mounted there."""
        return cls(disk / str(number) / "files", disk / str(number) / "work")

    def make(self) -> None:
        """Make its directories where they are missing."""
        for directory in (self.files, self.work):
            directory.mkdir(parents=True, exist_ok=True)


def make_disk(target: Path, *, size_mb: int, templates: Path) -> None:
    """Create an empty disk of `size_mb` MiB at `target`. Blocks for some milliseconds."""
    template = templates / f"disk-v{_LAYOUT_VERSION}-{size_mb}.ext4"
    if not template.exists():
        _format_template(template, size_mb)
    _copy_sparse(template, target)


def _format_template(template: Path, size_mb: int) -> None:
    """Format beside the final name and rename, so that two at once, or a crash, leave a whole file or none."""
    descriptor, name = tempfile.mkstemp(prefix=template.name, dir=template.parent)
    try:
        os.ftruncate(descriptor, size_mb << 20)
        with tempfile.TemporaryDirectory() as content:
            # It becomes the disk's own topmost directory, through which every user must pass.
            os.chmod(content, 0o755)
            for number in range(_LAYERS):
                Layer.at(Path(content), number).make()
            filled = [*_LAYOUT, "-d", content]
            host.run(["mkfs.ext4", "-q", "-F", *filled, name], timeout=_FORMAT_TIMEOUT)
        os.rename(name, template)
    except BaseException:
        os.unlink(name)
        raise
    finally:
        os.close(descriptor)


def _copy_sparse(source: Path, target: Path) -> None:
    """Copy the data extents of a sparse file and leave its holes."""
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(reader).st_size
        os.ftruncate(writer, size)
        position = _next_data(reader, 0)
        while position is not None:
            end = os.lseek(reader, position, os.SEEK_HOLE)
            while position < end:
                position += os.copy_file_range(
                    reader, writer, min(end - position, _COPY_PIECE), position, position
                )
            position = _next_data(reader, end)
    finally:
        os.close(reader)
        os.close(writer)


def _next_data(descriptor: int, position: int) -> int | None:
    try:
        return os.lseek(descriptor, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
