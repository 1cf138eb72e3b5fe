# SPDX-License-Identifier: Apache-2.0
"""Many small files in one request. What goes wrong with one stands in its place; the others are done all the same."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.models import (
    FileFailure,
    FileReadResult,
    FilesRead,
    FilesWritten,
    FileToRead,
    FileToWrite,
    FileWriteResult,
    ReadFiles,
    WriteFiles,
)
from atoll_server.api.call import Call
from atoll_server.api.errors import failure_members
from atoll_server.api.native.file_wire import (
    parse_mode,
    parse_path,
    render_compact_content,
    render_written,
)
from atoll_server.api.native.values import parse_content, render_path
from atoll_server.api.reply import Reply
from atoll_server.api.routing import LARGE_BODY_LIMIT, SANDBOX_ERRORS, Operation
from atoll_server.engine.errors import EngineError
from atoll_server.engine.file_batches import read_all, write_all
from atoll_server.engine.keys import Scope
from atoll_server.engine.model import FileRead, NewFile, Written

BATCH_CONTENT_LIMIT = LARGE_BODY_LIMIT
"""How many bytes of files one answer has; as JSON they are at most twice as many."""


async def write_files(call: Call) -> Reply:
    body = await call.json(WriteFiles)
    wanted = [_parse_file(f"files[{place}]", file) for place, file in enumerate(body.files)]
    files = call.engine.files(call.sandbox_id)
    results = await call.unless_gone(write_all(files, wanted))
    data = [_render_write(new.path, result) for new, result in zip(wanted, results, strict=True)]
    return call.answer(FilesWritten(data=data, failed=_count_failed(results)))


async def read_files(call: Call) -> Reply:
    body = await call.json(ReadFiles)
    paths = [_parse_path(f"files[{place}]", file) for place, file in enumerate(body.files)]
    files = call.engine.files(call.sandbox_id)
    results = await call.unless_gone(read_all(files, paths, limit=BATCH_CONTENT_LIMIT))
    data = [_render_read(path, result) for path, result in zip(paths, results, strict=True)]
    return call.answer(FilesRead(data=data, failed=_count_failed(results)))


def _parse_file(name: str, file: FileToWrite) -> NewFile:
    return NewFile(
        path=_parse_path(name, file),
        data=parse_content(f"{name}.content", file.content, file.encoding),
        mode=None if file.mode is None else parse_mode(file.mode),
    )


def _parse_path(name: str, file: FileToRead | FileToWrite) -> bytes:
    return parse_path(f"{name}.path", file.path, file.path_encoding)


def _render_write(path: bytes, result: Written | EngineError) -> FileWriteResult:
    shown = render_path(path)
    if isinstance(result, EngineError):
        return FileWriteResult(path=shown, error=_render_failure(result))
    return FileWriteResult(path=shown, written=render_written(result))


def _render_read(path: bytes, result: FileRead | EngineError) -> FileReadResult:
    shown = render_path(path)
    if isinstance(result, EngineError):
        return FileReadResult(path=shown, error=_render_failure(result))
    entry = result.entry
    return FileReadResult(
        path=shown, file=render_compact_content(entry.path, result.data, entry.mode)
    )


def _render_failure(error: EngineError) -> FileFailure:
    return FileFailure(**failure_members(error))


def _count_failed(results: Sequence[object]) -> int:
    return sum(isinstance(result, EngineError) for result in results)


_ROOT = "/v1/sandboxes/{id}/files/batch"

OPERATIONS = (
    Operation(
        method="POST",
        path=f"{_ROOT}/write",
        name="writeFiles",
        summary="Write many files, each whole or not at all; says for each what became of it",
        handler=write_files,
        body=WriteFiles,
        body_limit=LARGE_BODY_LIMIT,
        answer=FilesWritten,
        scope=Scope.FILES,
        errors=SANDBOX_ERRORS,
    ),
    Operation(
        method="POST",
        path=f"{_ROOT}/read",
        name="readFiles",
        summary="Read many small files; says for each what became of it",
        handler=read_files,
        body=ReadFiles,
        body_limit=LARGE_BODY_LIMIT,
        answer=FilesRead,
        scope=Scope.FILES,
        errors=SANDBOX_ERRORS,
    ),
)
