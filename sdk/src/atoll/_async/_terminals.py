# SPDX-License-Identifier: Apache-2.0
"""Terminals of a sandbox: processes that one reads and types to, over a WebSocket."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import _requests, _wire
from .._colour import async_shield
from .._events import parse_error_event
from ..errors import Error, ProtocolError, Timeout
from ..models import ProcessInfo, ProcessResult, ProcessStatus
from ._process import AsyncProcess
from ._processes import AsyncProcesses
from ._transport import AsyncTransport

if TYPE_CHECKING:
    from ._socket import AsyncSocket

LOGIN_SHELL = "command -v bash >/dev/null && exec bash -l; exec sh -l"
ROWS, COLS = 24, 80
KILL_SECONDS = 10.0
"""How long taking back a terminal that nobody got to see may take."""


class AsyncTerminal:
    """A connection to a process that has a terminal. As a context manager it is closed at the end of the block.

    The process goes on without it, until it ends: `attach` comes back to it.
    """

    def __init__(self, socket: AsyncSocket, process: AsyncProcess, position: int) -> None:
        self._socket = socket
        self._process = process
        self._position = position
        self._ended = False

    @property
    def process(self) -> AsyncProcess:
        """The process at the other end."""
        return self._process

    @property
    def id(self) -> str:
        """The id of the process."""
        return self._process.id

    @property
    def position(self) -> int:
        """How far its output was read; `attach` can go on from there."""
        return self._position

    @property
    def ended(self) -> bool:
        """Whether `read` came to the end of the process."""
        return self._ended

    async def read(self) -> bytes:
        """What the terminal shows next, as soon as there is anything; empty once the process has ended.

        Raises `ConnectionLost` when the connection breaks; the process goes on.
        """
        return await self._read(None)

    async def write(self, data: str | bytes) -> None:
        """Types."""
        await self._socket.send(_requests.encode_text(data) if isinstance(data, str) else data)

    async def resize(self, rows: int, cols: int) -> None:
        """Gives the terminal another size, which its programs are told."""
        size = _requests.pty_size((rows, cols))
        await self._say({"type": "resize", "rows": size.rows, "cols": size.cols})

    async def signal(self, signal: str | int) -> None:
        """Sends a signal, such as `"TERM"` or `15`, to the process and all that it started."""
        await self._say({"type": "signal", "signal": _requests.signal_value(signal)})

    async def end_input(self) -> None:
        """Says that nothing more will be typed: at a terminal, Ctrl-D."""
        await self._say({"type": "eof"})

    async def wait(self, timeout_ms: int | None = None) -> ProcessResult:
        """How it ended, once it has; what it writes meanwhile is read and dropped.

        Raises `Timeout` when it runs longer than `timeout_ms`; it goes on all the same.
        """
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        try:
            while await self._read(deadline):
                pass
        except TimeoutError:
            raise Timeout(f"process {self.id} still runs after {timeout_ms} ms") from None
        return await self._process.wait()

    async def aclose(self) -> None:
        """Leaves it; the process goes on. May be repeated."""
        await self._socket.aclose()

    async def _read(self, deadline: float | None) -> bytes:
        while not self._ended:
            seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
            message = await self._socket.receive(seconds)
            if isinstance(message, str):
                self._take(_parse(message))
            elif message:
                self._position += len(message)
                return message
        return b""

    def _take(self, said: dict[str, Any]) -> None:
        kind = said.get("type")
        if kind == "exit":
            self._process._info = _wire.from_plain(ProcessInfo, said)
            self._ended = True
        elif kind == "error":
            raise parse_error_event(said)
        elif kind == "dropped":
            self._position = _position(said)

    async def _say(self, message: Mapping[str, Any]) -> None:
        await self._socket.send(json.dumps(message))

    async def __aenter__(self) -> AsyncTerminal:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} in {self._process.sandbox_id}>"


class AsyncTerminals:
    """The terminals of a sandbox, as `sandbox.terminals`."""

    def __init__(
        self, transport: AsyncTransport, sandbox_id: str, processes: AsyncProcesses
    ) -> None:
        self._transport = transport
        self._sandbox_id = sandbox_id
        self._processes = processes

    async def open(
        self,
        command: str | Sequence[str | os.PathLike[str]] | None = None,
        *,
        rows: int = ROWS,
        cols: int = COLS,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        run_as: str | None = None,
        tag: str | None = None,
        timeout_ms: int | None = None,
        idle_timeout_ms: int | None = None,
    ) -> AsyncTerminal:
        """Starts a command, or else a login shell, at a terminal of its own, and connects to it.

        `rows` and `cols` are lines and columns. What `processes.start` takes means the same here. Raises
        `CommandNotStarted` where it could not start.
        """
        process = await self._processes.start(
            LOGIN_SHELL if command is None else command,
            pty=(rows, cols),
            cwd=cwd,
            env=env,
            user=user,
            run_as=run_as,
            tag=tag,
            timeout_ms=timeout_ms,
            idle_timeout_ms=idle_timeout_ms,
        )
        try:
            return await self.attach(process.id, since=0)
        except BaseException:
            with async_shield(KILL_SECONDS), suppress(Error):
                await process.kill()
            raise

    async def attach(self, process_id: str, *, since: int | None = None) -> AsyncTerminal:
        """Connects to a terminal that is there, or any process whose input is open.

        Begins with position `since` of its output, or else with the last 64 KiB that are kept. Raises
        `ProcessNotFound`.
        """
        request = _requests.attach_process(self._sandbox_id, process_id, since=since)
        socket = await self._transport.dial(request)
        try:
            first = await socket.receive()
            said = _parse(first if isinstance(first, str) else "")
            if said.get("type") == "error":
                raise parse_error_event(said)
            if said.get("type") != "attached":
                raise ProtocolError(f"a terminal that begins with {first!r:.80}")
            process = AsyncProcess(self._transport, self._sandbox_id, _parse_attached(said))
            return AsyncTerminal(socket, process, _position(said))
        except BaseException:
            with async_shield(KILL_SECONDS):
                await socket.aclose()
            raise

    async def list(self) -> list[AsyncProcess]:
        """The processes that run at a terminal, newest first."""
        running = await self._processes.list(status=ProcessStatus.RUNNING)
        return [process async for process in running if process.pty is not None]


def _parse_attached(said: dict[str, Any]) -> ProcessInfo:
    info = _wire.from_plain(ProcessInfo, said)
    # The message's `position` is where its output begins; the process's own is the sum of its streams.
    return dataclasses.replace(info, position=info.stdout_bytes + info.stderr_bytes)


def _parse(message: str) -> dict[str, Any]:
    said = _wire.parse(message.encode())
    if not isinstance(said, dict):
        raise ProtocolError(f"a message that is no object: {message!r:.80}")
    return said


def _position(said: dict[str, Any]) -> int:
    position = said.get("position")
    if type(position) is not int:
        raise ProtocolError(f"a terminal at position {position!r:.80}")
    return position
