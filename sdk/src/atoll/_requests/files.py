# SPDX-License-Identifier: Apache-2.0
"""Requests about files and watched directories."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote_from_bytes

from .. import _wire
from ..errors import InvalidRequest
from ..models import (
    ChangeMode,
    ChangeOwner,
    FileToRead,
    FileToWrite,
    MakeDirectory,
    MoveFile,
    ReadFiles,
    StartWatch,
    WriteFiles,
)
from .base import (
    HEARTBEAT_SILENCE_SECONDS,
    JSON,
    NDJSON,
    OCTETS,
    OCTETS_BODY,
    TAR,
    TAR_BODY,
    PathInSandbox,
    Request,
    Resend,
    length_header,
    path_bytes,
    post,
    quote_id,
    sandbox_target,
    with_query,
)


def read_file(
    sandbox_id: str,
    path: PathInSandbox,
    *,
    offset: int = 0,
    length: int | None = None,
    if_range: bytes | None = None,
) -> Request:
    headers = [OCTETS]
    if (span := render_range(offset, length)) is not None:
        headers.append((b"Range", span))
        headers += [] if if_range is None else [(b"If-Range", if_range)]
    return Request(b"GET", _files(sandbox_id, "", path), headers=tuple(headers))


def render_range(offset: object, length: object) -> bytes | None:
    """`length` bytes from `offset` on, or None for all. HTTP has no word for no bytes: one is asked for."""
    if type(offset) is not int or offset < 0:
        raise InvalidRequest(f"offset is a number of bytes from the start, not {offset!r:.80}")
    if length is None:
        return b"bytes=%d-" % offset if offset else None
    if type(length) is not int or length < 0:
        raise InvalidRequest(f"length is a number of bytes, or None for all, not {length!r:.80}")
    return b"bytes=%d-%d" % (offset, offset + max(length, 1) - 1)


def write_files(sandbox_id: str, files: Sequence[FileToWrite]) -> Request:
    body = _wire.encode(WriteFiles, {"files": files})
    return _post_file(sandbox_id, "batch/write", body, Resend.ALWAYS)


def read_files(sandbox_id: str, paths: Sequence[PathInSandbox]) -> Request:
    files = [FileToRead(**encode_paths(path=path)) for path in paths]
    return _post_file(
        sandbox_id, "batch/read", _wire.encode(ReadFiles, {"files": files}), Resend.ALWAYS
    )


def write_file(
    sandbox_id: str,
    path: PathInSandbox,
    *,
    mode: int | str | None = None,
    append: bool = False,
    size: int | None = None,
    body: bytes | None = None,
    replayable: bool = True,
) -> Request:
    return Request(
        b"PUT",
        _files(sandbox_id, "", path, mode=render_mode(mode), append=append or None),
        headers=(JSON, OCTETS_BODY, *(length_header(size) if body is None else ())),
        body=body,
        resend=Resend.ALWAYS if replayable and not append else Resend.NEVER,
    )


def remove_file(sandbox_id: str, path: PathInSandbox, *, recursive: bool) -> Request:
    # Sent twice, the second answer could be "not found" for what the first removed.
    return Request(
        b"DELETE",
        _files(sandbox_id, "", path, recursive=recursive or None),
        resend=Resend.REFUSED,
    )


def list_files(sandbox_id: str, path: PathInSandbox, *, depth: int, limit: int | None) -> Request:
    return Request(b"GET", _files(sandbox_id, "/list", path, depth=depth, limit=limit))


def stat_file(sandbox_id: str, path: PathInSandbox, *, follow: bool) -> Request:
    return Request(b"GET", _files(sandbox_id, "/stat", path, follow=follow))


def file_exists(sandbox_id: str, path: PathInSandbox) -> Request:
    return Request(b"GET", _files(sandbox_id, "/exists", path))


def make_directory(
    sandbox_id: str, path: PathInSandbox, *, parents: bool, mode: int | str | None
) -> Request:
    values = {
        **encode_paths(path=path),
        "parents": parents or None,
        "mode": render_mode(mode),
    }
    return _post_file(sandbox_id, "mkdir", _wire.encode(MakeDirectory, values))


def move_file(sandbox_id: str, source: PathInSandbox, destination: PathInSandbox) -> Request:
    return _post_file(sandbox_id, "move", _encode_move(source, destination))


def copy_file(sandbox_id: str, source: PathInSandbox, destination: PathInSandbox) -> Request:
    return _post_file(sandbox_id, "copy", _encode_move(source, destination))


def change_mode(
    sandbox_id: str, path: PathInSandbox, mode: int | str, *, recursive: bool
) -> Request:
    values = {
        **encode_paths(path=path),
        "mode": render_mode(mode),
        "recursive": recursive or None,
    }
    return _post_file(sandbox_id, "chmod", _wire.encode(ChangeMode, values), Resend.ALWAYS)


def change_owner(
    sandbox_id: str,
    path: PathInSandbox,
    *,
    user: str | int,
    group: str | int | None,
    recursive: bool,
) -> Request:
    values = {
        **encode_paths(path=path),
        "user": str(user),
        "group": None if group is None else str(group),
        "recursive": recursive or None,
    }
    return _post_file(sandbox_id, "chown", _wire.encode(ChangeOwner, values), Resend.ALWAYS)


def pack_directory(sandbox_id: str, path: PathInSandbox) -> Request:
    return Request(b"GET", _files(sandbox_id, "/archive", path), headers=(TAR,))


def unpack_directory(sandbox_id: str, path: PathInSandbox) -> Request:
    return Request(
        b"PUT",
        _files(sandbox_id, "/archive", path),
        headers=(JSON, TAR_BODY, *length_header(None)),
        resend=Resend.NEVER,
    )


def start_watch(
    sandbox_id: str, path: PathInSandbox, *, recursive: bool, linger_ms: int | None
) -> Request:
    values = {
        **encode_paths(path=path),
        "recursive": recursive or None,
        "linger_ms": linger_ms,
    }
    body = _wire.encode(StartWatch, values)
    return post(sandbox_target(sandbox_id) + "/watches", body, resend=Resend.REFUSED)


def list_watches(sandbox_id: str) -> Request:
    return Request(b"GET", sandbox_target(sandbox_id) + "/watches")


def get_watch(sandbox_id: str, watch_id: str) -> Request:
    return Request(b"GET", watch_target(sandbox_id, watch_id))


def stop_watch(sandbox_id: str, watch_id: str) -> Request:
    return Request(b"DELETE", watch_target(sandbox_id, watch_id))


def stream_changes(sandbox_id: str, watch_id: str, *, since: int, follow: bool) -> Request:
    query = {"since": since, "follow": None if follow else False}
    return Request(
        b"GET",
        with_query(watch_target(sandbox_id, watch_id) + "/changes", query),
        headers=(NDJSON,),
        wait=HEARTBEAT_SILENCE_SECONDS,
    )


def render_mode(mode: int | str | None) -> str | None:
    """Permission bits as they travel: octal digits. Text is taken as such, a number as its value: 0o755."""
    if mode is None or isinstance(mode, str):
        return mode
    if type(mode) is not int or not 0 <= mode <= 0o7777:
        raise InvalidRequest(f'mode must be such as 0o755 or "0755", not {mode!r:.80}')
    return f"{mode:04o}"


def watch_target(sandbox_id: str, watch_id: str) -> str:
    return f"{sandbox_target(sandbox_id)}/watches/{quote_id('a watch', watch_id)}"


def _files(sandbox_id: str, verb: str, path: PathInSandbox, **query: Any) -> str:
    quoted = quote_from_bytes(path_bytes(path), safe="/")
    return with_query(
        f"{sandbox_target(sandbox_id)}/files{verb}?path={quoted}", query, separator="&"
    )


def encode_paths(**paths: PathInSandbox) -> dict[str, str]:
    """These fields of a body: as they are, or in base64 where one is not UTF-8, which JSON cannot hold."""
    raw = {name: path_bytes(path) for name, path in paths.items()}
    try:
        return {name: path.decode() for name, path in raw.items()}
    except UnicodeDecodeError:
        encoded = {name: base64.b64encode(path).decode() for name, path in raw.items()}
        return {**encoded, "path_encoding": "base64"}


def _encode_move(source: PathInSandbox, destination: PathInSandbox) -> bytes:
    return _wire.encode(MoveFile, encode_paths(source=source, destination=destination))


def _post_file(sandbox_id: str, verb: str, body: bytes, resend: Resend = Resend.REFUSED) -> Request:
    return post(f"{sandbox_target(sandbox_id)}/files/{verb}", body, resend=resend)
