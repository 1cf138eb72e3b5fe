# SPDX-License-Identifier: Apache-2.0
"""Between the wire's records of files and the engine's."""

from __future__ import annotations

import base64

from atoll.models import FileContent, FileEntry, FileList, FileType, FileWritten, Pagination
from atoll_server.api.native.values import parse_content, render_nanoseconds, render_path
from atoll_server.engine.errors import InvalidRequest
from atoll_server.engine.model import Entry, Listing, Written
from atoll_server.engine.paths import MAX_PATH_BYTES

# What JSON writes with six characters for one.
ESCAPED_AT_LENGTH = bytes(set(range(0x20)) - set(b"\b\t\n\f\r"))


def render_content(path: bytes, data: bytes, mode: int) -> FileContent:
    """As text where it is text, else as base64."""
    try:
        content, encoding = data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        content, encoding = base64.b64encode(data).decode("ascii"), "base64"
    return FileContent(
        content=content, encoding=encoding, path=render_path(path), mode=f"{mode:04o}"
    )


def render_compact_content(path: bytes, data: bytes, mode: int) -> FileContent:
    """The same at no more than twice the size of the data: as base64 too where JSON would escape much of it."""
    if data.translate(None, ESCAPED_AT_LENGTH) == data:
        return render_content(path, data, mode)
    content = base64.b64encode(data).decode("ascii")
    return FileContent(content, encoding="base64", path=render_path(path), mode=f"{mode:04o}")


def parse_path(name: str, text: str, encoding: str) -> bytes:
    """A path as it is written in a body, in which names that are not UTF-8 come as base64."""
    raw = parse_content(name, text, encoding)
    if len(raw) > MAX_PATH_BYTES:
        raise InvalidRequest(f"`{name}` must be at most {MAX_PATH_BYTES} bytes; got {len(raw)}")
    return raw


def parse_mode(text: str) -> int:
    """Permission bits; that the text is octal was checked with its record."""
    return int(text, 8)


def render_entry(entry: Entry) -> FileEntry:
    return FileEntry(
        name=render_path(entry.name),
        path=render_path(entry.path),
        type=FileType(entry.kind.value),
        is_directory=entry.kind.value == "directory",
        size_bytes=entry.size,
        mode=f"{entry.mode:04o}",
        uid=entry.uid,
        gid=entry.gid,
        user=None if entry.user is None else render_path(entry.user),
        group=None if entry.group is None else render_path(entry.group),
        modified_at=render_nanoseconds(entry.modified_ns),
        target=None if entry.target is None else render_path(entry.target),
    )


def render_listing(listing: Listing, limit: int) -> FileList:
    entries = [render_entry(entry) for entry in listing.entries]
    pagination = Pagination(total=len(entries), limit=limit, offset=0, has_more=listing.truncated)
    return FileList(data=entries, pagination=pagination, truncated=listing.truncated)


def render_written(written: Written) -> FileWritten:
    return FileWritten(
        path=render_path(written.path), size_bytes=written.size, created=written.created
    )
