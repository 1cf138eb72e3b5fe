# SPDX-License-Identifier: Apache-2.0
"""Files of one sandbox."""

from __future__ import annotations

import builtins
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import BinaryIO, Literal, overload

from .. import _requests
from .._archive import DirectoryDownloaded, Unpacker, pack
from .._batches import Data, FileGiven, FilesToWrite, Path, to_bytes
from .._colour import CHUNK_BYTES, AsyncByteSource, async_chunks, async_run
from .._downloads import Download
from .._local_files import open_source
from .._requests import PathInSandbox
from ..errors import Error, TooLarge
from ..models import (
    FileEntry,
    FileExists,
    FileList,
    FileWritten,
    Unpacked,
    WatchInfo,
    WatchList,
)
from ._batches import read_many, write_many
from ._downloads import LocalPath, fetch_bytes, fetch_into, fetch_to_path, large_chunks
from ._transport import AsyncTransport
from ._watch import AsyncWatch

MAX_LISTED = 10_000


class AsyncFiles:
    """Files of one sandbox, as `sandbox.files`.

    Paths are text, bytes or `os.PathLike`; relative ones start at the sandbox's `workdir`. All are resolved inside the
    sandbox. What is missing raises `FileNotFound`, what the file system refuses `FileError`.
    """

    def __init__(self, transport: AsyncTransport, sandbox_id: str, disk_mb: int) -> None:
        self._transport = transport
        self._id = sandbox_id
        self._disk_bytes = disk_mb * 1024 * 1024

    async def read(
        self, path: PathInSandbox, *, offset: int = 0, length: int | None = None
    ) -> bytes:
        """The content of a file, or `length` bytes of it from `offset` on: as many as there are, none past its end.

        For large files see `download`, for many small ones `read_many`.
        """
        return await fetch_bytes(self._transport, Download(self._id, path, offset, length))

    async def read_text(self, path: PathInSandbox, encoding: str = "utf-8") -> str:
        """The whole content of a file as text, line ends untouched. Raises `UnicodeDecodeError` for other bytes."""
        content = await self.read(path)
        return content.decode(encoding)

    async def write(
        self,
        path: PathInSandbox,
        data: str | bytes | bytearray | memoryview,
        *,
        mode: int | str | None = None,
    ) -> FileWritten:
        """Makes or replaces a file, and the directories above it. Text is written as UTF-8.

        Readers see the old file or the whole new one. `mode` is such as `0o755` or `"0755"`; without it a new file has
        0644, an existing one keeps its own.
        """
        request = _requests.write_file(self._id, path, mode=mode, body=to_bytes(data))
        return await self._transport.ask(FileWritten, request)

    @overload
    async def read_many(
        self, paths: Iterable[Path], *, check: Literal[True] = True
    ) -> dict[Path, bytes]: ...

    @overload
    async def read_many(
        self, paths: Iterable[Path], *, check: bool
    ) -> dict[Path, bytes | Error]: ...

    async def read_many(
        self, paths: Iterable[Path], *, check: bool = True
    ) -> dict[Path, bytes] | dict[Path, bytes | Error]:
        """Reads many small files in few requests, by path as it was given.

        Those that cannot be read keep the others from nothing: `FilesFailed` is raised in the end, with everything
        that was read as its `results`; with `check=False` that is returned, in which an error stands for its file.
        """
        return await read_many(self._transport, self._id, paths, check=check)

    @overload
    async def write_many(
        self, files: Mapping[Path, Data], *, check: Literal[True] = True
    ) -> list[FileWritten]: ...

    @overload
    async def write_many(
        self, files: Iterable[FileGiven], *, check: Literal[True] = True
    ) -> list[FileWritten]: ...

    @overload
    async def write_many(
        self, files: Mapping[Path, Data], *, check: bool
    ) -> list[FileWritten | Error]: ...

    @overload
    async def write_many(
        self, files: Iterable[FileGiven], *, check: bool
    ) -> list[FileWritten | Error]: ...

    async def write_many(
        self, files: FilesToWrite, *, check: bool = True
    ) -> list[FileWritten] | list[FileWritten | Error]:
        """Makes or replaces many small files in few requests: of a mapping from path to data, or an iterable of
        `(path, data)` and `FileToWrite`. Answers in their order.

        Each is written whole or not at all, in no certain order, and one that fails keeps the others from nothing:
        `FilesFailed` is raised in the end, with what became of each as its `results`; with `check=False` that is
        returned, in which an error stands for its file.
        """
        return await write_many(self._transport, self._id, files, check=check)

    async def append(
        self, path: PathInSandbox, data: str | bytes | bytearray | memoryview
    ) -> FileWritten:
        """Adds to the end of a file, which is made where it is missing."""
        request = _requests.write_file(self._id, path, append=True, body=to_bytes(data))
        return await self._transport.ask(FileWritten, request)

    async def list(
        self, path: PathInSandbox = ".", depth: int = 1, *, limit: int | None = None
    ) -> list[FileEntry]:
        """The entries of a directory, sorted; with `depth` 2 and more also those of its directories. Links are not
        followed.

        Without `limit`, more than 10,000 entries raise `TooLarge`; with it (at most as many), the first ones come.
        """
        asked = MAX_LISTED if limit is None else limit
        request = _requests.list_files(self._id, path, depth=depth, limit=asked)
        found = await self._transport.ask(FileList, request)
        if limit is None and found.truncated:
            raise TooLarge(
                f"more than {MAX_LISTED} entries: list its directories one by one, or pass limit"
            )
        return found.data

    async def stat(self, path: PathInSandbox, *, follow: bool = True) -> FileEntry:
        """What stands at a path; with `follow=False` a link itself."""
        request = _requests.stat_file(self._id, path, follow=follow)
        return await self._transport.ask(FileEntry, request)

    async def exists(self, path: PathInSandbox) -> bool:
        """Whether anything has that path."""
        request = _requests.file_exists(self._id, path)
        return (await self._transport.ask(FileExists, request)).exists

    async def mkdir(
        self,
        path: PathInSandbox,
        *,
        parents: bool = False,
        recursive: bool = False,
        mode: int | str | None = None,
    ) -> FileEntry:
        """Makes a directory. With `parents` (`recursive` means the same) also those above it, and one that exists is
        fine; without, it raises `FileError` with the reason `exists`, or `FileNotFound` for a missing parent.
        """
        request = _requests.make_directory(self._id, path, parents=parents or recursive, mode=mode)
        return await self._transport.ask(FileEntry, request)

    async def move(self, source: PathInSandbox, destination: PathInSandbox) -> FileEntry:
        """Renames. An existing file at the destination is replaced, a directory there raises `FileError`."""
        request = _requests.move_file(self._id, source, destination)
        return await self._transport.ask(FileEntry, request)

    async def copy(self, source: PathInSandbox, destination: PathInSandbox) -> FileEntry:
        """Copies a file, or a directory with all it holds."""
        request = _requests.copy_file(self._id, source, destination)
        return await self._transport.ask(FileEntry, request)

    async def remove(self, path: PathInSandbox, *, recursive: bool = False) -> None:
        """Removes a file, a link itself, or a directory; a full one only with `recursive`."""
        await self._transport.send(_requests.remove_file(self._id, path, recursive=recursive))

    async def delete(self, path: PathInSandbox, *, recursive: bool = False) -> None:
        """The same as `remove`."""
        await self.remove(path, recursive=recursive)

    async def chmod(
        self, path: PathInSandbox, mode: int | str, *, recursive: bool = False
    ) -> FileEntry:
        """Sets permission bits, such as `0o755` or `"0755"`."""
        request = _requests.change_mode(self._id, path, mode, recursive=recursive)
        return await self._transport.ask(FileEntry, request)

    async def chown(
        self,
        path: PathInSandbox,
        user: str | int,
        group: str | int | None = None,
        *,
        recursive: bool = False,
    ) -> FileEntry:
        """Sets the owner, by name or number inside the sandbox. Without `group` it is the user's own."""
        request = _requests.change_owner(
            self._id, path, user=user, group=group, recursive=recursive
        )
        return await self._transport.ask(FileEntry, request)

    async def watch(
        self, path: PathInSandbox, *, recursive: bool = False, linger_ms: int | None = None
    ) -> AsyncWatch:
        """Watches a directory: what happens there after this call is told by the watch, which is to be iterated.

        With `recursive` the directories beneath are watched too, also those that are made later. The watch lives
        until it is stopped, or nobody has read it for `linger_ms` (five minutes by default, a day at most).
        """
        request = _requests.start_watch(self._id, path, recursive=recursive, linger_ms=linger_ms)
        return self._make_watch(await self._transport.ask(WatchInfo, request))

    async def watches(self) -> builtins.list[AsyncWatch]:
        """The watches of the sandbox, whoever made them, the oldest first."""
        found = await self._transport.ask(WatchList, _requests.list_watches(self._id))
        return [self._make_watch(info) for info in found.data]

    async def get_watch(self, watch_id: str) -> AsyncWatch:
        """The watch of that id, to go on reading it. Raises `WatchNotFound`."""
        request = _requests.get_watch(self._id, watch_id)
        return self._make_watch(await self._transport.ask(WatchInfo, request))

    async def upload(
        self,
        source: LocalPath | AsyncByteSource,
        path: PathInSandbox,
        *,
        mode: int | str | None = None,
    ) -> FileWritten:
        """Sends a local file, an open binary file, or an iterable of bytes to a file in the sandbox, of any size.

        Where it fails, the file in the sandbox is as it was. For bytes at hand see `write`.
        """
        if isinstance(source, bytes | bytearray | memoryview):
            raise TypeError(
                "upload takes a local path, a binary file or an iterable; use write for bytes"
            )
        if isinstance(source, str | os.PathLike):
            return await self._upload_path(source, path, mode)
        request = _requests.write_file(self._id, path, mode=mode, replayable=False)
        return await self._transport.ask(FileWritten, request, lambda: async_chunks(source))

    async def download(
        self,
        path: PathInSandbox,
        target: LocalPath | BinaryIO,
        *,
        offset: int = 0,
        length: int | None = None,
    ) -> int:
        """Fetches a file of any size, or `length` bytes of it from `offset` on, to a local path or into an open binary
        file; says how many bytes.

        Where the connection breaks it goes on from there, or from the start where the file has changed meanwhile. A
        local path gets the file whole or not at all; into an open file no start is written twice, so that a change
        raises `ConnectionLost`.
        """
        retries = self._transport.max_retries
        download = Download(self._id, path, offset, length, max_resumes=retries)
        if isinstance(target, str | os.PathLike):
            return await fetch_to_path(self._transport, download, target)
        return await fetch_into(self._transport, download, target)

    async def upload_dir(self, source: LocalPath, path: PathInSandbox) -> Unpacked:
        """Sends a local directory's content into a directory of the sandbox, which is made where missing.

        Links are sent as links; sockets, pipes and devices are left out; owners are not kept.
        """

        async def body() -> AsyncIterator[bytes]:
            blocks = pack(source)
            while (block := await async_run(next, blocks, None)) is not None:
                yield block

        request = _requests.unpack_directory(self._id, path)
        return await self._transport.ask(Unpacked, request, body)

    async def download_dir(
        self, path: PathInSandbox, target: LocalPath, *, max_bytes: int | None = None
    ) -> DirectoryDownloaded:
        """Fetches a directory's content into a local directory, which is made where missing.

        The sandbox is not trusted: nothing is written outside `target`, `UnsafeArchive` is raised for an attempt;
        links that lead outside and devices are left out; setuid bits and owners are dropped. `max_bytes` bounds what
        is written; by default it is the sandbox's disk size.
        """
        limit = self._disk_bytes if max_bytes is None else max_bytes
        async with self._transport.open(_requests.pack_directory(self._id, path)) as answer:
            unpacker = await async_run(Unpacker, target, max_bytes=limit)
            try:
                async with aclosing(large_chunks(answer)) as chunks:
                    async for chunk in chunks:
                        await async_run(unpacker.feed, chunk)
                return await async_run(unpacker.finish)
            finally:
                unpacker.close()

    def _make_watch(self, info: WatchInfo) -> AsyncWatch:
        return AsyncWatch(self._transport, self._id, info)

    async def _upload_path(
        self, source: LocalPath, path: PathInSandbox, mode: int | str | None
    ) -> FileWritten:
        file, size = await async_run(open_source, source)
        with file:

            async def body() -> AsyncIterator[bytes]:
                if size is not None:
                    file.seek(0)
                left = CHUNK_BYTES if size is None else size
                while left and (chunk := await async_run(file.read, min(left, CHUNK_BYTES))):
                    left -= 0 if size is None else len(chunk)
                    yield chunk

            request = _requests.write_file(
                self._id, path, mode=mode, size=size, replayable=size is not None
            )
            return await self._transport.ask(FileWritten, request, body)
