# SPDX-License-Identifier: Apache-2.0
"""Files of a sandbox. Bytes are streamed both ways; the JSON forms are for what fits in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from atoll.models import (
    ChangeMode,
    ChangeOwner,
    FileContent,
    FileEntry,
    FileExists,
    FileList,
    FileWritten,
    MakeDirectory,
    MoveFile,
    Unpacked,
)
from atoll_server.api.call import Call
from atoll_server.api.native.downloads import open_download
from atoll_server.api.native.file_wire import (
    parse_mode,
    parse_path,
    render_content,
    render_entry,
    render_listing,
    render_written,
)
from atoll_server.api.native.values import parse_content
from atoll_server.api.reply import JSON_TYPE, OCTETS_TYPE, TAR_TYPE, Answer, Reply
from atoll_server.api.routing import LARGE_BODY_LIMIT, SANDBOX_ERRORS, SMALL_BODY_LIMIT, Operation
from atoll_server.api.streaming import collect_bytes, once, stream_bytes
from atoll_server.engine.keys import Scope

_PATH = {
    "description": "relative to the sandbox's `workdir`, or absolute",
    "max_length": 4096,
}
_MODE = {"description": "octal digits, e.g. `0755`", "max_length": 5}


@dataclass(frozen=True)
class PathQuery:
    path: str = field(metadata=_PATH)


@dataclass(frozen=True)
class WriteQuery:
    path: str = field(metadata=_PATH)
    mode: str | None = field(default=None, metadata=_MODE)
    append: bool = field(
        default=False, metadata={"description": "add at the end instead of replacing"}
    )


@dataclass(frozen=True)
class RemoveQuery:
    path: str = field(metadata=_PATH)
    recursive: bool = field(
        default=False, metadata={"description": "a directory with all that it holds"}
    )


@dataclass(frozen=True)
class ListQuery:
    path: str = field(metadata=_PATH)
    depth: int = field(default=1, metadata={"description": "levels to descend", "ge": 1, "le": 32})
    limit: int = field(
        default=1000, metadata={"description": "entries at most", "ge": 1, "le": 10_000}
    )


@dataclass(frozen=True)
class StatQuery:
    path: str = field(metadata=_PATH)
    follow: bool = field(
        default=True, metadata={"description": "whether a symlink stands for its target"}
    )


async def read(call: Call) -> Answer:
    files, path = call.engine.files(call.sandbox_id), call.query(PathQuery).path
    if call.preferred(READ_TYPES) == OCTETS_TYPE:
        return stream_bytes(open_download(call, files, path), OCTETS_TYPE)
    entry, data = await call.unless_gone(collect_bytes(files.read(path), LARGE_BODY_LIMIT))
    return call.answer(render_content(entry.path, data, entry.mode))


async def write(call: Call) -> Reply:
    query = call.query(WriteQuery)
    files = call.engine.files(call.sandbox_id)
    mode = query.mode
    chunks: AsyncIterator[bytes]
    size: int | None
    if call.media_type == OCTETS_TYPE:
        chunks, size = call.chunks(), call.content_length
    elif call.media_type in ("", JSON_TYPE):
        body = await call.json(FileContent)
        data = parse_content("content", body.content, body.encoding)
        chunks, size, mode = once(data), len(data), mode or body.mode
    else:
        raise call.unsupported(f"{OCTETS_TYPE} or {JSON_TYPE}")
    written = await files.write(
        query.path,
        chunks,
        mode=None if mode is None else parse_mode(mode),
        append=query.append,
        size=size,
    )
    return call.answer(render_written(written))


async def remove(call: Call) -> Reply:
    query = call.query(RemoveQuery)
    await call.engine.files(call.sandbox_id).remove(query.path, recursive=query.recursive)
    return Reply(status=204, headers=())


async def list_files(call: Call) -> Reply:
    query = call.query(ListQuery)
    files = call.engine.files(call.sandbox_id)
    listing = await call.unless_gone(files.list(query.path, depth=query.depth, limit=query.limit))
    return call.answer(render_listing(listing, query.limit))


async def stat(call: Call) -> Reply:
    query = call.query(StatQuery)
    entry = await call.engine.files(call.sandbox_id).stat(query.path, follow=query.follow)
    return call.answer(render_entry(entry))


async def exists(call: Call) -> Reply:
    path = call.query(PathQuery).path
    return call.answer(FileExists(exists=await call.engine.files(call.sandbox_id).exists(path)))


async def make_directory(call: Call) -> Reply:
    body = await call.json(MakeDirectory)
    files = call.engine.files(call.sandbox_id)
    path = parse_path("path", body.path, body.path_encoding)
    parents, mode = body.parents or body.recursive, parse_mode(body.mode)
    return await _changed(call, path, files.mkdir(path, parents=parents, mode=mode))


async def move(call: Call) -> Reply:
    source, destination = _parse_move(await call.json(MoveFile))
    files = call.engine.files(call.sandbox_id)
    return await _changed(call, destination, files.move(source, destination))


async def copy(call: Call) -> Reply:
    source, destination = _parse_move(await call.json(MoveFile))
    files = call.engine.files(call.sandbox_id)
    return await _changed(call, destination, files.copy(source, destination))


def _parse_move(body: MoveFile) -> tuple[bytes, bytes]:
    return (
        parse_path("source", body.source, body.path_encoding),
        parse_path("destination", body.destination, body.path_encoding),
    )


async def change_mode(call: Call) -> Reply:
    body = await call.json(ChangeMode)
    files = call.engine.files(call.sandbox_id)
    path = parse_path("path", body.path, body.path_encoding)
    changing = files.chmod(path, parse_mode(body.mode), recursive=body.recursive)
    return await _changed(call, path, changing)


async def change_owner(call: Call) -> Reply:
    body = await call.json(ChangeOwner)
    files = call.engine.files(call.sandbox_id)
    path = parse_path("path", body.path, body.path_encoding)
    changing = files.chown(path, body.user, body.group, recursive=body.recursive)
    return await _changed(call, path, changing)


async def _changed(call: Call, path: bytes, work: Coroutine[Any, Any, None]) -> Reply:
    """Do it, unless the client goes away, and answer with what is at `path` then."""
    await call.unless_gone(work)
    entry = await call.engine.files(call.sandbox_id).stat(path, follow=False)
    return call.answer(render_entry(entry))


async def download_archive(call: Call) -> Answer:
    path = call.query(PathQuery).path
    return stream_bytes(call.engine.files(call.sandbox_id).pack(path), TAR_TYPE)


async def upload_archive(call: Call) -> Reply:
    path = call.query(PathQuery).path
    if call.media_type not in ARCHIVE_TYPES:
        raise call.unsupported(TAR_TYPE)
    entries = await call.engine.files(call.sandbox_id).unpack(path, call.chunks())
    return call.answer(Unpacked(entries=entries))


READ_TYPES = (JSON_TYPE, OCTETS_TYPE)
ARCHIVE_TYPES = (TAR_TYPE, OCTETS_TYPE)
_ERRORS = (*SANDBOX_ERRORS, "FILE_NOT_FOUND", "FILE_ERROR")
_ROOT = "/v1/sandboxes/{id}/files"

_operation = partial(Operation, scope=Scope.FILES, errors=_ERRORS)
# Answered with what is there then.
_change = partial(_operation, method="POST", body_limit=SMALL_BODY_LIMIT, answer=FileEntry)

OPERATIONS = (
    _operation(
        method="GET",
        path=_ROOT,
        name="readFile",
        summary="Read a file: its bytes, all or a `Range` of them, or JSON",
        handler=read,
        query=PathQuery,
        answer=FileContent,
        answer_types=READ_TYPES,
        partial=True,
        errors=(*_ERRORS, "TOO_LARGE", "RANGE_NOT_SATISFIABLE"),
    ),
    _operation(
        method="PUT",
        path=_ROOT,
        name="writeFile",
        summary="Write a file whole, making its parents; readers see the old one or the new",
        handler=write,
        query=WriteQuery,
        body=FileContent,
        raw_body_types=(OCTETS_TYPE,),
        body_limit=LARGE_BODY_LIMIT,
        answer=FileWritten,
    ),
    _operation(
        method="DELETE",
        path=_ROOT,
        name="removeFile",
        summary="Remove a file or directory",
        handler=remove,
        query=RemoveQuery,
        answer=None,
        status=204,
    ),
    _operation(
        method="GET",
        path=f"{_ROOT}/list",
        name="listFiles",
        summary="What a directory holds",
        handler=list_files,
        query=ListQuery,
        answer=FileList,
    ),
    _operation(
        method="GET",
        path=f"{_ROOT}/stat",
        name="statFile",
        summary="One file, directory or link",
        handler=stat,
        query=StatQuery,
        answer=FileEntry,
    ),
    _operation(
        method="GET",
        path=f"{_ROOT}/exists",
        name="fileExists",
        summary="Whether there is something at a path",
        handler=exists,
        query=PathQuery,
        answer=FileExists,
    ),
    _change(
        path=f"{_ROOT}/mkdir",
        name="makeDirectory",
        summary="Make a directory",
        handler=make_directory,
        body=MakeDirectory,
    ),
    _change(
        path=f"{_ROOT}/move",
        name="moveFile",
        summary="Move a file or directory",
        handler=move,
        body=MoveFile,
    ),
    _change(
        path=f"{_ROOT}/copy",
        name="copyFile",
        summary="Copy a file, or a directory with all that it holds",
        handler=copy,
        body=MoveFile,
    ),
    _change(
        path=f"{_ROOT}/chmod",
        name="changeMode",
        summary="Change permissions",
        handler=change_mode,
        body=ChangeMode,
    ),
    _change(
        path=f"{_ROOT}/chown",
        name="changeOwner",
        summary="Change the owner",
        handler=change_owner,
        body=ChangeOwner,
    ),
    _operation(
        method="GET",
        path=f"{_ROOT}/archive",
        name="downloadArchive",
        summary="A directory's content as a tar",
        handler=download_archive,
        query=PathQuery,
        answer=None,
        answer_types=(TAR_TYPE,),
    ),
    _operation(
        method="PUT",
        path=f"{_ROOT}/archive",
        name="uploadArchive",
        summary="Unpack a tar beneath a directory",
        handler=upload_archive,
        query=PathQuery,
        raw_body_types=ARCHIVE_TYPES,
        answer=Unpacked,
    ),
)
