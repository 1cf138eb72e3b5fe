# SPDX-License-Identifier: Apache-2.0
"""A file's bytes as an answer: the whole, or the part that `Range` asks for."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from atoll_server.api.call import Call
from atoll_server.api.errors import RangeNotSatisfiable
from atoll_server.api.ranges import (
    Part,
    Wanted,
    is_same,
    make_etag,
    parse_range,
    plan_part,
    render_content_range,
)
from atoll_server.api.streaming import Body
from atoll_server.engine.errors import FileError
from atoll_server.engine.files import Files
from atoll_server.engine.model import Entry

# An offset beyond it is looked at before it is asked for: file systems refuse those that no file of theirs can have.
PLAUSIBLE_OFFSET = 1 << 40


@dataclass(frozen=True)
class Opening:
    """What is asked of the agent, before the file's size is known."""

    offset: int = 0
    length: int | None = None


@asynccontextmanager
async def open_download(call: Call, files: Files, path: str) -> AsyncIterator[Body]:
    """The answer's bytes and how it begins.

    What a range means depends on the file's size, which comes with its opening. Where the guess was wrong it is opened
    again: for its end once the size is known, for the whole where it is not the file that `If-Range` names.
    """
    wanted = parse_range(call.header(b"range")) if call.scope["method"] == "GET" else None
    opening = _guess(wanted)
    while True:
        async with files.read(path, offset=opening.offset, length=opening.length) as (
            entry,
            content,
        ):
            etag = make_etag(entry, int(call.clock.now().timestamp() * 1e9))
            if not entry.size or not is_same(call.header(b"if-range"), etag):
                wanted = None
            part = None if wanted is None else plan_part(wanted, entry.size)
            if wanted is not None and part is None:
                raise _unsatisfiable(entry.size)
            needed = Opening() if part is None else Opening(part.offset, part.length)
            if _covers(opening, needed, entry):
                yield _body(content, entry, etag, part)
                return
        opening = needed
        # From now on these bytes are meant, wherever the end may move to.
        wanted = None if part is None else Wanted(part.offset, part.offset + part.length - 1)


def _guess(wanted: Wanted | None) -> Opening:
    if wanted is None:
        return Opening()
    if wanted.first is None or wanted.first > PLAUSIBLE_OFFSET:
        return Opening(length=0)
    length = None if wanted.last is None else wanted.last - wanted.first + 1
    return Opening(wanted.first, length)


def _covers(opening: Opening, needed: Opening, entry: Entry) -> bool:
    """Whether what was opened is what is needed; the end of the file bounds both."""
    if opening.offset != needed.offset:
        return False
    return _length(opening, entry) == _length(needed, entry)


def _length(opening: Opening, entry: Entry) -> int | None:
    if not entry.size:
        return opening.length  # it has more than its entry says
    left = max(0, entry.size - opening.offset)
    return left if opening.length is None else min(opening.length, left)


def _body(content: AsyncIterable[bytes], entry: Entry, etag: str | None, part: Part | None) -> Body:
    headers = [(b"accept-ranges", b"bytes")]
    if etag is not None:
        headers.append((b"etag", etag.encode("ascii")))
    if part is None:
        return Body(content, headers=tuple(headers))
    headers.append((b"content-range", render_content_range(part, entry.size).encode("ascii")))
    headers.append((b"content-length", b"%d" % part.length))
    return Body(_exactly(content, part.length), status=206, headers=tuple(headers))


async def _exactly(content: AsyncIterable[bytes], length: int) -> AsyncIterator[bytes]:
    """All of it, as was promised, or an error, which breaks the connection."""
    left = length
    async for chunk in content:
        left -= len(chunk)
        yield chunk
    if left:
        raise FileError("the file was cut short while it was read", reason="io")


def _unsatisfiable(size: int) -> RangeNotSatisfiable:
    content_range = render_content_range(None, size).encode("ascii")
    return RangeNotSatisfiable(
        f"the file has {size} bytes, and none of them are in the range",
        headers=((b"content-range", content_range),),
    )
