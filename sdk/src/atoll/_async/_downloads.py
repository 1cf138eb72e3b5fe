# SPDX-License-Identifier: Apache-2.0
"""Fetching a file, over as many connections as it takes."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import BinaryIO

from .._colour import CHUNK_BYTES, async_run
from .._downloads import PARTIAL, Download
from .._local_files import LocalTarget
from ..errors import ConnectionLost, RangeNotSatisfiable
from ._transport import AsyncAnswer, AsyncTransport

LocalPath = str | os.PathLike[str]


Write = Callable[[bytes], Awaitable[object]]
Restart = Callable[[], bool]


async def fetch_bytes(transport: AsyncTransport, download: Download) -> bytes:
    """The bytes, which are to fit in memory."""
    try:
        async with transport.open(download.request()) as answer:
            download.begin(answer.status, answer.headers)
            return download.take(await answer.aread())
    except RangeNotSatisfiable:
        return b""


async def fetch_into(transport: AsyncTransport, download: Download, file: BinaryIO) -> int:
    """Writes the bytes into an open file; says how many."""

    async def write(chunk: bytes) -> None:
        await async_run(file.write, chunk)

    return await _fetch(transport, download, write, lambda: False)


async def fetch_to_path(transport: AsyncTransport, download: Download, path: LocalPath) -> int:
    """Makes a local file of the bytes, whole or not at all; says how many."""
    target = await async_run(LocalTarget, path)

    async def write(chunk: bytes) -> None:
        await async_run(target.write, chunk)

    try:
        size = await _fetch(transport, download, write, target.restart)
        await async_run(target.commit)
    except BaseException:
        target.abort()
        raise
    return size


async def large_chunks(answer: AsyncAnswer) -> AsyncGenerator[bytes, None]:
    """The answer in chunks so large that handing each to a thread costs little; all that came, also where it breaks."""
    held: list[bytes] = []
    size = 0
    broken: ConnectionLost | None = None
    async with aclosing(answer.aiter_bytes()) as chunks:
        try:
            async for chunk in chunks:
                held.append(chunk)
                size += len(chunk)
                if size >= CHUNK_BYTES:
                    yield b"".join(held)
                    held, size = [], 0
        except ConnectionLost as error:
            broken = error
    if held:
        yield b"".join(held)
    if broken is not None:
        raise broken


async def _fetch(
    transport: AsyncTransport, download: Download, write: Write, restart: Restart
) -> int:
    try:
        while not await _fetch_once(transport, download, write, restart):
            continue
    except RangeNotSatisfiable:
        pass  # nothing more is there
    return download.size_bytes


async def _fetch_once(
    transport: AsyncTransport, download: Download, write: Write, restart: Restart
) -> bool:
    """Whether it came to the end; else it is worth another try."""
    async with transport.open(download.request()) as answer:
        if not download.begin(answer.status, answer.headers) and not restart():
            raise ConnectionLost(
                "the connection broke, and the file has changed since: what was written of it is stale"
            )
        try:
            await _copy(answer, download, write)
        except ConnectionLost:
            if not download.may_resume():
                raise
            return False
    return True


async def _copy(answer: AsyncAnswer, download: Download, write: Write) -> None:
    async with aclosing(large_chunks(answer)) as chunks:
        async for chunk in chunks:
            await write(download.take(chunk))
            if download.is_whole and answer.status != PARTIAL:
                return  # the server had no part of it, and sends the whole
