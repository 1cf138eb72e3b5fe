# SPDX-License-Identifier: Apache-2.0
"""One command whose output is passed on while it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from .._colour import AsyncOnLine, async_settle
from .._events import (
    FrameDecoder,
    FrameKind,
    LineSplitter,
    Piece,
    Tail,
    complete_result,
    parse_end,
)
from .._requests import Request
from ..errors import ConnectionLost, Error, Timeout
from ..models import ExecResult
from ._transport import AsyncTransport


class AsyncOutput:
    """One stream of a command: its lines go to one callback, its bytes to another, its end is kept."""

    def __init__(
        self,
        on_line: AsyncOnLine | None = None,
        on_bytes: Callable[[bytes], object] | None = None,
    ) -> None:
        self.tail = Tail()
        self._on_line = on_line
        self._on_bytes = on_bytes
        self._splitter = LineSplitter()

    async def feed(self, data: bytes) -> None:
        self.tail.append(data)
        if self._on_bytes is not None:
            self._on_bytes(data)
        if self._on_line is not None:
            await self._deliver(self._on_line, self._splitter.feed(data))

    async def finish(self) -> None:
        """Passes on a last line that has no end."""
        if self._on_line is not None:
            await self._deliver(self._on_line, self._splitter.finish())

    async def _deliver(self, on_line: AsyncOnLine, lines: list[str]) -> None:
        for line in lines:
            returned = on_line(line)
            if returned is not None:
                await async_settle(returned)


async def run_streamed(
    transport: AsyncTransport, request: Request, stdout: AsyncOutput, stderr: AsyncOutput
) -> ExecResult:
    """Runs the command of a framed request. Leaving early, by whatever exception, has the server kill it."""
    decoder = FrameDecoder()
    end: ExecResult | Error | None = None
    async with transport.open(request) as answer:
        try:
            async with aclosing(answer.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    for piece in decoder.feed(chunk):
                        end = await _take(piece, stdout, stderr) or end
        except (ConnectionLost, Timeout):
            if end is None:
                raise
    if end is None:
        raise ConnectionLost("the stream ended without a result; the command may have been killed")
    if isinstance(end, Error):
        raise end
    await stdout.finish()
    await stderr.finish()
    return complete_result(end, stdout.tail, stderr.tail, gaps=decoder.gaps)


async def _take(
    piece: Piece, stdout: AsyncOutput, stderr: AsyncOutput
) -> ExecResult | Error | None:
    if piece.kind is FrameKind.STDOUT:
        await stdout.feed(piece.data)
    elif piece.kind is FrameKind.STDERR:
        await stderr.feed(piece.data)
    elif piece.kind is FrameKind.CONTROL:
        return parse_end(piece.data)
    return None
