# SPDX-License-Identifier: Apache-2.0
"""Many files of one sandbox in one call: a few at a time, in whatever order, answered in the order they were asked for.

What goes wrong with one file is that file's own answer. What goes wrong with the sandbox ends the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

from atoll_server.engine.errors import (
    EngineError,
    FileError,
    FileNotFound,
    InvalidRequest,
    TooLarge,
    show_name,
)
from atoll_server.engine.files import Files
from atoll_server.engine.model import FileRead, NewFile, Written
from atoll_server.engine.paths import AnyPath

# While the agent works on one, the next is on its way: more at once is no faster on any runtime.
FILES_AT_ONCE: Final = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


async def write_all(files: Files, wanted: Sequence[NewFile]) -> list[Written | EngineError]:
    """Write each of them whole or not at all. One that fails keeps none of the others from being written."""
    places: dict[bytes, int] = {}
    for place, new in enumerate(wanted):
        first = places.setdefault(files.resolve(new.path), place)
        if first != place:
            name = show_name(files.resolve(new.path).decode("utf-8", "replace"))
            raise InvalidRequest(f"files {first} and {place} have the same path: {name}")

    async def write(new: NewFile) -> Written:
        return await files.write(new.path, _once(new.data), mode=new.mode, size=len(new.data))

    return await _each(wanted, write)


async def read_all(
    files: Files, paths: Sequence[AnyPath], *, limit: int
) -> list[FileRead | EngineError]:
    """Read each of them. One that does not fit into what is left of `limit` bytes for all of them is `TooLarge`."""
    for path in paths:
        files.resolve(path)
    allowance = Allowance(limit)

    async def read(path: AnyPath) -> FileRead:
        async with files.read(path) as (entry, content):
            with allowance.share() as share:
                share.take(entry.size)
                data = bytearray()
                async for chunk in content:
                    data += chunk
                    share.take(len(data))  # what has no size, as under /proc, may have any
                return FileRead(entry, share.keep(bytes(data)))

    return await _each(paths, read)


class Allowance:
    """How many bytes may still be held."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = limit

    def share(self) -> Share:
        return Share(self)


class Share:
    """One file's part of an allowance. Given back at the end of the block, but for what was kept."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._taken = 0

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        self._allowance.left += self._taken

    def take(self, size: int) -> None:
        """Have room for as many bytes in all, or raise `TooLarge`."""
        more = max(0, size - self._taken)
        if more > self._allowance.left:
            raise TooLarge(
                f"no room for the file: what is read in one call has at most {self._allowance.limit} bytes; "
                "read it by itself"
            )
        self._allowance.left -= more
        self._taken += more

    def keep(self, data: bytes) -> bytes:
        self._taken -= len(data)
        return data


async def _each(
    items: Sequence[Item], work: Callable[[Item], Awaitable[Result]]
) -> list[Result | EngineError]:
    results: dict[int, Result | EngineError] = {}
    left = iter(enumerate(items))

    async def worker() -> None:
        for place, item in left:
            try:
                results[place] = await work(item)
            except (FileNotFound, FileError, TooLarge, InvalidRequest) as error:
                results[place] = error

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(FILES_AT_ONCE, len(items))):
                group.create_task(worker())
    except ExceptionGroup as raised:
        raise raised.exceptions[0] from None
    return [results[place] for place in range(len(items))]


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
