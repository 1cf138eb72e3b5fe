# SPDX-License-Identifier: Apache-2.0
"""One process, as a program holds it: following, waiting, signals, input."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from .. import _requests
from .._following import Patience
from .._output import OutputReader, ProcessEvent
from .._requests import Request
from ..errors import Error, InvalidRequest, Timeout
from ..models import ProcessInfo, ProcessResult, ProcessStatus, PtySize, StdinWritten
from ._follow import follow_stream, wait_or_raise
from ._transport import AsyncTransport

WAIT_SLICE_MS = 20_000
"""A longer wait is several requests: no proxy lets one be silent for hours."""


class AsyncProcess:
    """A process of a sandbox. It goes on without this object, this program and the server.

    Its attributes are as of the last answer about it; `refresh` asks anew.
    """

    def __init__(self, transport: AsyncTransport, sandbox_id: str, info: ProcessInfo) -> None:
        self._transport = transport
        self._sandbox_id = sandbox_id
        self._info = info

    @property
    def info(self) -> ProcessInfo:
        """Everything that the server said about it."""
        return self._info

    @property
    def id(self) -> str:
        """Its name on the server, to be taken as opaque."""
        return self._info.id

    @property
    def sandbox_id(self) -> str:
        """The sandbox that it is in."""
        return self._sandbox_id

    @property
    def pid(self) -> int:
        """Its number inside the sandbox."""
        return self._info.pid

    @property
    def command(self) -> str | list[str]:
        """What it runs, as it was given."""
        return self._info.command

    @property
    def cwd(self) -> str:
        """Where it was started."""
        return self._info.cwd

    @property
    def user(self) -> str:
        """Who it runs as."""
        return self._info.user

    @property
    def tag(self) -> str | None:
        """Your name for it."""
        return self._info.tag

    @property
    def status(self) -> ProcessStatus:
        """Whether it runs, and else how it ended."""
        return self._info.status

    @property
    def exit_code(self) -> int | None:
        """Its status; None while it runs and when a timeout ended it."""
        return self._info.exit_code

    @property
    def signal_name(self) -> str | None:
        """The name of the signal that ended it."""
        return self._info.signal

    @property
    def started_at(self) -> str:
        """ISO 8601, UTC."""
        return self._info.started_at

    @property
    def exited_at(self) -> str | None:
        """ISO 8601, UTC; None while it runs."""
        return self._info.exited_at

    @property
    def stdout_bytes(self) -> int:
        """How much it has written to standard output."""
        return self._info.stdout_bytes

    @property
    def stderr_bytes(self) -> int:
        """How much it has written to standard error."""
        return self._info.stderr_bytes

    @property
    def position(self) -> int:
        """The end of its output: how many bytes there were, of both streams."""
        return self._info.position

    @property
    def first_position(self) -> int:
        """The oldest of its output that is kept."""
        return self._info.first_position

    @property
    def stdin_open(self) -> bool:
        """Whether it can be written to."""
        return self._info.stdin_open

    @property
    def pty(self) -> PtySize | None:
        """The size of its terminal; None without one."""
        return self._info.pty

    async def refresh(self) -> None:
        """Brings the attributes up to date."""
        request = _requests.get_process(self._sandbox_id, self.id)
        self._info = await self._transport.ask(ProcessInfo, request)

    async def stream(
        self, since: int = 0, *, follow: bool = True
    ) -> AsyncGenerator[ProcessEvent, None]:
        """Its output from position `since`: `Stdout`, `Stderr` and `Dropped`, at last `Exit`.

        Goes on by itself where it was when the connection breaks or the server is started anew, for a minute; each
        byte comes once. `Dropped` tells of output that is not kept any more. With `follow=False` it ends with what
        there is now. Leaving changes nothing for the process.
        """
        _requests.check_since(since)
        reader = OutputReader(since)

        def request() -> Request:
            return _requests.stream_process(
                self._sandbox_id, self.id, since=reader.position, follow=follow
            )

        async with aclosing(follow_stream(self._transport, reader, request)) as events:
            async for event in events:
                self._info = reader.end or self._info
                yield event
        self._info = reader.end or self._info

    async def wait(self, timeout_ms: int | None = None) -> ProcessResult:
        """How it ended and the newest of what it wrote, once it has ended.

        Raises `Timeout` when it runs longer than `timeout_ms`; it goes on all the same. Waits over a restart of the
        server, as `stream` does.
        """
        if timeout_ms is not None and (type(timeout_ms) is not int or timeout_ms < 0):
            raise InvalidRequest(f"timeout_ms is a number of milliseconds, not {timeout_ms!r:.80}")
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        patience = Patience()
        while True:
            slice_ms = _slice_ms(deadline)
            try:
                return await self._wait_once(slice_ms)
            except Timeout as timeout:
                if deadline is not None and time.monotonic() >= deadline:
                    raise Timeout(
                        f"process {self.id} still runs after {timeout_ms} ms",
                        request_id=timeout.request_id,
                    ) from None
                patience.reset()
            except Error as error:
                await wait_or_raise(patience, error)

    async def result(self, timeout_ms: int | None = None) -> ProcessResult:
        """The same as `wait`."""
        return await self.wait(timeout_ms)

    async def signal(self, signal: str | int, *, tree: bool = True) -> None:
        """Sends a signal, such as `"TERM"` or `15`, to it and all that it started, or with `tree=False` to it alone.

        Raises `ProcessEnded` when it is too late.
        """
        request = _requests.signal_process(self._sandbox_id, self.id, signal, tree=tree)
        self._info = await self._transport.ask(ProcessInfo, request)

    async def kill(self) -> None:
        """Ends it and all that it started, with SIGKILL. May be repeated."""
        request = _requests.kill_process(self._sandbox_id, self.id)
        self._info = await self._transport.ask(ProcessInfo, request)

    async def write_stdin(self, data: str | bytes, *, eof: bool = False) -> int:
        """Writes to its input, and with `eof` ends that; returns how many bytes it took.

        Needs `stdin_open` or `pty` at its start, else raises `StdinClosed`. Waits for a process that does not read.
        """
        request = _requests.write_stdin(self._sandbox_id, self.id, data, eof=eof)
        return (await self._transport.ask(StdinWritten, request)).bytes

    async def close_stdin(self) -> None:
        """Ends its input, as `write_stdin` with `eof` does."""
        await self.write_stdin(b"", eof=True)

    async def resize(self, rows: int, cols: int) -> None:
        """Gives its terminal another size, in lines and columns. Raises `ProcessEnded` when it is too late."""
        size = _requests.pty_size((rows, cols))
        request = _requests.resize_process(self._sandbox_id, self.id, size)
        self._info = await self._transport.ask(ProcessInfo, request)

    async def _wait_once(self, slice_ms: int) -> ProcessResult:
        request = _requests.wait_process(self._sandbox_id, self.id, timeout_ms=slice_ms)
        result = await self._transport.ask(ProcessResult, request)
        self._info = result
        return result

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status.value} in {self._sandbox_id}>"


def _slice_ms(deadline: float | None) -> int:
    if deadline is None:
        return WAIT_SLICE_MS
    return max(0, min(WAIT_SLICE_MS, round((deadline - time.monotonic()) * 1000)))
