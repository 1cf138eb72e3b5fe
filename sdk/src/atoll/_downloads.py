# SPDX-License-Identifier: Apache-2.0
"""Where a download stands: what to ask for, which of the bytes that come are wanted, and how to go on. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ._answers import find_header
from ._requests import Header, PathInSandbox, Request, read_file
from .errors import ProtocolError

PARTIAL = 206
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/[0-9]{1,18}", re.ASCII)


class Download:
    """`length` bytes of a file from `offset` on, over as many answers as it takes.

    A broken one is gone on with where it broke as long as the server vouches, by its `ETag`, that the file is the
    same; else all of it is asked for anew.
    """

    def __init__(
        self,
        sandbox_id: str,
        path: PathInSandbox,
        offset: int = 0,
        length: int | None = None,
        *,
        max_resumes: int = 0,
    ) -> None:
        self.size_bytes = 0
        """How much of it there is."""
        self._sandbox_id, self._path = sandbox_id, path
        self._offset, self._length = offset, length
        self._max_resumes = max_resumes
        self._resumes = 0
        self._most = 0
        self._etag: bytes | None = None
        self._skip = 0

    def request(self) -> Request:
        """What to ask for next."""
        if not self._goes_on:
            return read_file(self._sandbox_id, self._path, offset=self._offset, length=self._length)
        return read_file(
            self._sandbox_id,
            self._path,
            offset=self._offset + self.size_bytes,
            length=None if self._length is None else self._length - self.size_bytes,
            if_range=self._etag,
        )

    @property
    def is_whole(self) -> bool:
        """Whether nothing more is wanted."""
        return self._length is not None and self.size_bytes >= self._length

    def begin(self, status: int, headers: Sequence[Header]) -> bool:
        """Take note of an answer. False where it begins anew and what was taken before is worth nothing."""
        goes_on = self._goes_on and status == PARTIAL
        first = self._offset + (self.size_bytes if goes_on else 0)
        if status == PARTIAL and _first_byte(headers) != first:
            raise ProtocolError("the answer has another part of the file than was asked for")
        had_some = self.size_bytes > 0
        if not goes_on:
            self.size_bytes = 0
        self._skip = 0 if status == PARTIAL else self._offset
        self._etag = _strong_etag(headers)
        return goes_on or not had_some

    def take(self, chunk: bytes) -> bytes:
        """What of this chunk is wanted."""
        skipped = min(self._skip, len(chunk))
        self._skip -= skipped
        end = None if self._length is None else skipped + self._length - self.size_bytes
        wanted = chunk[skipped:end]
        self.size_bytes += len(wanted)
        return wanted

    def may_resume(self) -> bool:
        """Asked once an answer broke: whether to ask again. Not for ever where nothing new comes of it."""
        if self.size_bytes > self._most:
            self._most, self._resumes = self.size_bytes, 0
        self._resumes += 1
        return self._resumes <= self._max_resumes

    @property
    def _goes_on(self) -> bool:
        return self.size_bytes > 0 and self._etag is not None


def _strong_etag(headers: Sequence[Header]) -> bytes | None:
    etag = find_header(headers, b"etag")
    return etag.encode("latin-1") if etag is not None and etag.startswith('"') else None


def _first_byte(headers: Sequence[Header]) -> int | None:
    matched = _CONTENT_RANGE.fullmatch(find_header(headers, b"content-range") or "")
    return None if matched is None else int(matched[1])
