# SPDX-License-Identifier: Apache-2.0
"""Many files in few requests. What fits into none of them goes alone."""

from __future__ import annotations

from collections.abc import Iterable

from .. import _requests
from .._batches import (
    OF_ONE_FILE,
    Batch,
    FilesToWrite,
    FileToWrite,
    Path,
    check_all,
    content_of,
    plan_reads,
    plan_writes,
    to_bytes,
    written_of,
)
from .._downloads import Download
from .._requests import PathInSandbox
from ..errors import Error, TooLarge
from ..models import FilesRead, FilesWritten, FileWritten
from ._downloads import fetch_bytes
from ._transport import AsyncTransport


async def write_many(
    transport: AsyncTransport, sandbox_id: str, files: FilesToWrite, *, check: bool
) -> list[FileWritten | Error]:
    paths: list[PathInSandbox] = []
    results: list[FileWritten | Error] = []
    for batch in plan_writes(files):
        paths += [file.path for file in batch.files]
        results += await _write(transport, sandbox_id, batch)
    return check_all(paths, results, results) if check else results


async def read_many(
    transport: AsyncTransport, sandbox_id: str, paths: Iterable[Path], *, check: bool
) -> dict[Path, bytes | Error]:
    results: dict[Path, bytes | Error] = {}
    for asked in plan_reads(paths):
        for path, result in zip(asked, await _read(transport, sandbox_id, asked), strict=True):
            # The answer was full; alone it may have any size.
            is_left_out = isinstance(result, TooLarge)
            results[path] = await _read_one(transport, sandbox_id, path) if is_left_out else result
    return check_all(results, results.values(), results) if check else results


async def _write(
    transport: AsyncTransport, sandbox_id: str, batch: Batch
) -> list[FileWritten | Error]:
    if not batch.records:
        return [await _write_one(transport, sandbox_id, file) for file in batch.files]
    request = _requests.write_files(sandbox_id, batch.records)
    answer = await transport.ask(FilesWritten, request)
    return written_of(answer, len(batch.files))


async def _write_one(
    transport: AsyncTransport, sandbox_id: str, file: FileToWrite
) -> FileWritten | Error:
    request = _requests.write_file(sandbox_id, file.path, mode=file.mode, body=to_bytes(file.data))
    try:
        return await transport.ask(FileWritten, request)
    except OF_ONE_FILE as error:
        return error


async def _read(
    transport: AsyncTransport, sandbox_id: str, paths: list[Path]
) -> list[bytes | Error]:
    request = _requests.read_files(sandbox_id, paths)
    answer = await transport.ask(FilesRead, request)
    return content_of(answer, len(paths))


async def _read_one(
    transport: AsyncTransport, sandbox_id: str, path: PathInSandbox
) -> bytes | Error:
    try:
        return await fetch_bytes(transport, Download(sandbox_id, path))
    except OF_ONE_FILE as error:
        return error
