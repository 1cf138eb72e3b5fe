# SPDX-License-Identifier: Apache-2.0
"""Files on this side of a transfer. Everything here blocks; nothing here knows of sandboxes."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO


def open_source(path: str | os.PathLike[str]) -> tuple[BinaryIO, int | None]:
    """A local file to be read, and its size where that is known beforehand."""
    file = open(path, "rb", buffering=0)
    try:
        status = os.fstat(file.fileno())
    except BaseException:
        file.close()
        raise
    # The stream ends where the file now ends: what is appended meanwhile is not sent.
    return file, status.st_size if stat.S_ISREG(status.st_mode) else None


class LocalTarget:
    """A local file that appears whole or not at all. What is there and no regular file, is written into."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # A link is followed: it stays, and what it points to is replaced.
        self._final = Path(os.path.realpath(path))
        self._replaces = not self._final.exists() or self._final.is_file()
        self._written = self._final
        if self._replaces:
            self._written = self._final.with_name(
                f".{self._final.name[:200]}.{secrets.token_hex(6)}"
            )
        flags = os.O_WRONLY | getattr(os, "O_BINARY", 0)
        flags |= os.O_CREAT | os.O_EXCL if self._replaces else 0
        self._file = open(os.open(self._written, flags, 0o666), "wb", buffering=0)
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.size_bytes += len(data)

    def restart(self) -> bool:
        """Drops what was written. False where that cannot be: what went into a device or a pipe is gone."""
        if self._replaces:
            self._file.seek(0)
            self._file.truncate()
            self.size_bytes = 0
        return self._replaces

    def commit(self) -> None:
        """Gives the file its name. Until then it had another."""
        self._file.close()
        if self._replaces:
            with contextlib.suppress(OSError):  # none there yet, or not ours to ask
                os.chmod(self._written, stat.S_IMODE(os.stat(self._final).st_mode))
            os.replace(self._written, self._final)

    def abort(self) -> None:
        self._file.close()
        if self._replaces:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._written)
