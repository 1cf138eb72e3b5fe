# SPDX-License-Identifier: Apache-2.0
"""What a program inside answers, read from its connection. Every byte of it is hostile, and all of it is bounded."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

import httptools

HEAD_BYTES: Final = 64 * 1024
HEADERS: Final = 256
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
SWITCHING: Final = 101
_LOWEST_STATUS, _LOWEST_FINAL, _HIGHEST_STATUS = 100, 200, 599
_LENGTH_DIGITS: Final = 18
_WITHOUT_BODY: Final = (204, 304)
_LONG_HEAD: Final = f"more than {HEAD_BYTES} bytes of headers"


class BadAnswer(Exception):
    """The program does not speak HTTP, or not as it must."""


class Unanswered(BadAnswer):
    """It hung up before it said anything."""


class Stream(Protocol):
    """A connection to the program: what is needed of one."""

    async def receive(self) -> bytes: ...


@dataclass(frozen=True)
class Head:
    """An answer's beginning. `length` is that of the body, where it is known."""

    status: int
    headers: list[tuple[bytes, bytes]]
    length: int | None
    has_body: bool


class Answer:
    """One answer on one connection: first `head`, then `body` until that is None."""

    def __init__(self, stream: Stream, *, method: str) -> None:
        self._stream = stream
        self._is_head_request = method == "HEAD"
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: deque[bytes] = deque()
        self._received = 0
        self._since_body = 0  # bytes that brought none of it: the parser keeps what it takes for a header's beginning
        self._head_bytes = 0
        self._rest = b""
        self._left = 0  # of a body of known length, past what the parser has seen of it
        self._is_complete = False
        self._is_whole = False
        self._keeps_alive = False
        self._has_more = False
        self.trailers: list[tuple[bytes, bytes]] = []
        """What stands behind a chunked body, once it has ended."""
        self._forget()

    async def head(self, *, may_switch: bool = False) -> Head:
        """The head, past whatever the program says for now. `may_switch`: a 101 is an answer, too."""
        while not self._has_head:
            await self._feed()
        if self._status == SWITCHING and not may_switch:
            raise BadAnswer("another protocol, which was not asked for")
        return self._make_head()

    async def body(self) -> bytes | None:
        """The next of the body; None at its end, and `BadAnswer` where that comes too early."""
        while not self._pieces:
            if self._is_complete:
                return None
            if self._left:
                return await self._feed_plain()
            await self._feed()
        return self._pieces.popleft()

    @property
    def may_be_followed(self) -> bool:
        """Whether another may come on the same connection: this one is complete, said so, and nothing is behind it."""
        return self._is_whole and self._keeps_alive and not self._has_more

    @property
    def rest(self) -> bytes:
        """What came behind the head of a 101, which is no HTTP any more."""
        return self._rest

    async def _feed(self) -> None:
        if self._since_body > HEAD_BYTES:
            raise BadAnswer(_LONG_HEAD)
        data = await self._stream.receive()
        if not data:
            self._end()
            return
        self._received += len(data)
        self._since_body += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._rest = data[int(upgrade.args[0]) :]
        except httptools.HttpParserError as error:
            self._has_more = True
            if not self._is_complete:  # what comes behind an answer is nobody's
                raise BadAnswer(f"what it says is not HTTP: {_reason(error)}") from None

    async def _feed_plain(self) -> bytes | None:
        """Of a body whose length is known, what the parser would only copy."""
        data = await self._stream.receive()
        if not data:
            self._end()
            return None
        taken = data[: self._left]
        self._left -= len(taken)
        self._has_more = len(data) > len(taken)
        self._is_complete = self._is_whole = not self._left
        return taken

    def _end(self) -> None:
        is_until_end = self._length is None and not self._is_chunked
        if not self._received:
            raise Unanswered("it hung up without an answer")
        if not self._has_head or not is_until_end:
            raise BadAnswer("it hung up before its answer was complete")
        self._is_complete = True

    def _make_head(self) -> Head:
        has_body = self._status not in _WITHOUT_BODY and not self._is_head_request
        if not has_body:
            self._is_complete = True
            self._left = 0
            self._pieces.clear()
        return Head(self._status, self._headers, self._length, has_body)

    def _forget(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._status = 0
        self._length: int | None = None
        self._is_chunked = False
        self._has_head = False

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._has_more = self._is_whole

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_complete:
            return  # what comes behind the answer
        kept = self.trailers if self._has_head else self._headers
        name = name.lower()
        is_fit = _NAME.fullmatch(name) and _VALUE.fullmatch(value)
        if not is_fit or len(kept) == HEADERS:
            raise BadAnswer("a header that cannot be passed on")
        # What comes at once may hold more, and its end.
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES:
            raise BadAnswer(_LONG_HEAD)
        if self._has_head:
            self.trailers.append((name, value))
            return
        if name == b"content-length":
            self._length = _parse_length(value)
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked" or self._is_chunked:
                raise BadAnswer("a body in a form that cannot be passed on")
            self._is_chunked = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._has_head:
            return
        self._status = self._parser.get_status_code()
        self._has_head = self._status == SWITCHING or self._status >= _LOWEST_FINAL
        if self._status < _LOWEST_STATUS or self._status > _HIGHEST_STATUS:
            raise BadAnswer(f"status {self._status}")
        self._keeps_alive = self._parser.should_keep_alive()
        if self._has_head and not self._is_chunked:
            self._left = self._length or 0
        if not self._has_head:
            self._forget()  # a word for now, such as 100 or 103; the answer follows

    def on_body(self, body: bytes) -> None:
        self._since_body = 0
        if not self._is_complete:
            self._pieces.append(body)
            self._left = max(0, self._left - len(body))

    def on_message_complete(self) -> None:
        if self._has_head:
            self._is_complete = self._is_whole = True


def _parse_length(value: bytes) -> int:
    if not value.isdigit() or len(value) > _LENGTH_DIGITS:
        raise BadAnswer("a length that is none")
    return int(value)


def _reason(error: Exception) -> str:
    # What a callback of ours raised is in the parser's error.
    found = error.__context__ if isinstance(error.__context__, BadAnswer) else error
    return str(found)[:100]
