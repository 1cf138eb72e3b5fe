# SPDX-License-Identifier: Apache-2.0
"""Passes bytes between this program's streams and a process in a sandbox, both ways at once.

One event loop, because keys, output, signals and the window's size come in any order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import Error, ProcessEnded, StdinClosed
from ._exits import OWN_ERROR
from ._processes import exit_status_of_process
from ._terminal import complain
from ._tty import (
    STDIN,
    STDOUT,
    LeaveKeys,
    is_terminal,
    raw_mode,
    restore_screen,
    terminal_environment,
    terminal_size,
    write_all,
)

if TYPE_CHECKING:
    from atoll import AsyncProcess, AsyncSandbox, AsyncTerminal

    from ._session import Session

STDERR = 2
CHUNK_BYTES = 64 * 1024
STOPPED_BY = (signal.SIGTERM, signal.SIGHUP)
KILL_SECONDS = 5.0


class Stopped(Exception):
    """A signal told us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True)
class Relay:
    """Between our streams and the processes of one sandbox. Each way returns the exit status."""

    session: Session
    sandbox_id: str

    def open_terminal(
        self, command: str | list[str] | None, *, env: dict[str, str] | None = None, **options: Any
    ) -> int:
        """Runs a command, or else a login shell, at our terminal."""
        rows, cols = terminal_size()
        env = {**terminal_environment(), **(env or {})}

        async def connect(sandbox: AsyncSandbox) -> AsyncTerminal:
            return await sandbox.terminals.open(command, rows=rows, cols=cols, env=env, **options)

        return self._run(lambda sandbox: self._converse(sandbox, connect, takes_size=False))

    def attach_terminal(self, process_id: str, *, takes_size: bool) -> int:
        """Puts our terminal to a process that has one."""

        async def connect(sandbox: AsyncSandbox) -> AsyncTerminal:
            return await sandbox.terminals.attach(process_id)

        return self._run(lambda sandbox: self._converse(sandbox, connect, takes_size=takes_size))

    def open_pipes(self, command: str | list[str], **options: Any) -> int:
        """Runs a command with our standard input, output and error. It is killed when we have to leave."""

        async def talk(sandbox: AsyncSandbox) -> int:
            process = await sandbox.processes.start(command, stdin_open=True, **options)
            try:
                return await _pass_on(process, since=0, takes_input=True)
            except BaseException:
                with contextlib.suppress(Error, TimeoutError):
                    await asyncio.wait_for(process.kill(), KILL_SECONDS)
                raise

        return self._run(talk)

    def attach_pipes(self, process_id: str, *, takes_input: bool) -> int:
        """Puts our streams to a process that is there, from now on."""

        async def talk(sandbox: AsyncSandbox) -> int:
            process = await sandbox.processes.get(process_id)
            # Its input stays open when ours ends: others may write to it too.
            return await _pass_on(
                process, since=process.position, takes_input=takes_input, ends_input=False
            )

        return self._run(talk)

    def _run(self, talk: Callable[[AsyncSandbox], Awaitable[int]]) -> int:
        async def connected() -> int:
            async with self.session.connect_async() as client:
                return await _until_stopped(talk(await client.sandboxes.get(self.sandbox_id)))

        try:
            return asyncio.run(connected())
        except Stopped as stopped:
            return 128 + stopped.number

    async def _converse(
        self,
        sandbox: AsyncSandbox,
        connect: Callable[[AsyncSandbox], Awaitable[AsyncTerminal]],
        *,
        takes_size: bool,
    ) -> int:
        async with await connect(sandbox) as terminal:
            keys = LeaveKeys() if is_terminal() else None
            failure: BaseException | None = None
            try:
                with raw_mode():
                    if takes_size:
                        await terminal.resize(*terminal_size())
                    await _type_and_show(terminal, keys)
            except (Error, OSError, asyncio.CancelledError) as error:
                failure = error
            if terminal.ended and failure is None:
                return exit_status_of_process(terminal.process.info)
            restore_screen()
            self._explain(terminal.id, failure)
        if isinstance(failure, asyncio.CancelledError):
            raise failure
        return 0 if failure is None else OWN_ERROR

    def _explain(self, process_id: str, failure: BaseException | None) -> None:
        if isinstance(failure, Error | OSError):
            complain(getattr(failure, "message", str(failure)))
        back = shlex.join(["atoll", "attach", self.sandbox_id, process_id])
        complain(f"it goes on; come back with: {back}")


async def _type_and_show(terminal: AsyncTerminal, keys: LeaveKeys | None) -> None:
    """Until the process has ended, or the keys that leave were typed."""

    async def show() -> None:
        while data := await terminal.read():
            await asyncio.to_thread(write_all, STDOUT, data)

    async def type_on() -> bool:
        async for typed in _typed():
            passed = typed if keys is None else keys.feed(typed)
            if passed:
                await terminal.write(passed)
            if keys is not None and keys.found:
                return True
        return keys is not None  # a terminal that has an end is gone

    async def follow_size() -> None:
        async for _ in _resizes():
            await terminal.resize(*terminal_size())

    others = [follow_size()] if keys is not None else []
    await _until_first(show(), type_on(), *others)


async def _pass_on(
    process: AsyncProcess, *, since: int, takes_input: bool, ends_input: bool = True
) -> int:
    from .._output import Dropped, Stderr, Stdout

    async def show() -> None:
        async for event in process.stream(since):
            if isinstance(event, Stdout):
                await asyncio.to_thread(write_all, STDOUT, event.data)
            elif isinstance(event, Stderr):
                await asyncio.to_thread(write_all, STDERR, event.data)
            elif isinstance(event, Dropped):
                complain(f"{event.size_bytes} bytes of its output are not kept any more")

    async def type_on() -> bool:
        # A process need not read all that we have for it.
        with contextlib.suppress(StdinClosed, ProcessEnded):
            async for typed in _typed():
                await process.write_stdin(typed)
            if ends_input:
                await process.close_stdin()
        return False

    await _until_first(show(), *([type_on()] if takes_input else []))
    return exit_status_of_process(process.info)


async def _until_first(
    show: Coroutine[Any, Any, None], *others: Coroutine[Any, Any, bool | None]
) -> None:
    """Until `show` is through, or one of the others says True, or any fails; the rest is cancelled."""
    shown = asyncio.ensure_future(show)
    tasks: set[asyncio.Future[Any]] = {shown, *map(asyncio.ensure_future, others)}
    running = set(tasks)
    try:
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if shown in done:
                return await shown
            results = [task.result() for task in done]  # of all, for any may have failed
            if True in results:
                return
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_stopped(talk: Awaitable[int]) -> int:
    """What `talk` returns; a signal that ends programs has it cancelled, so that everything is put back."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(talk)
    stopped: list[int] = []

    def stop(number: int) -> None:
        stopped.append(number)
        task.cancel()

    for number in STOPPED_BY:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if stopped:
            raise Stopped(stopped[0]) from None
        raise
    finally:
        for number in STOPPED_BY:
            loop.remove_signal_handler(number)


async def _typed() -> AsyncIterator[bytes]:
    """What comes from standard input, until its end."""
    while True:
        await _readable()
        try:
            data = os.read(STDIN, CHUNK_BYTES)
        except BlockingIOError:
            continue
        except OSError:  # our terminal is gone
            return
        if not data:
            return
        yield data


async def _readable() -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    try:
        loop.add_reader(STDIN, _set_once, ready)
    except PermissionError:  # a file, which is always readable
        await asyncio.sleep(0)
        return
    try:
        await ready
    finally:
        loop.remove_reader(STDIN)


def _set_once(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _resizes() -> AsyncIterator[None]:
    """Comes whenever our window changed its size."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    try:
        while True:
            await changed.wait()
            changed.clear()
            yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
