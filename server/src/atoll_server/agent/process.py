# SPDX-License-Identifier: Apache-2.0
"""A process of a sandbox over one connection to its agent: started there, or attached to later."""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import Callable
from typing import Final, Protocol, Self

from atoll_server.agent.connection import Connection, send_alone
from atoll_server.agent.errors import AgentError, AgentProtocolError
from atoll_server.agent.exchange import begin, reply
from atoll_server.agent.frames import Kind
from atoll_server.agent.messages import (
    ATTACHED,
    STARTED,
    Fields,
    StartRequest,
    read_end,
    read_exit,
)
from atoll_server.agent.process_input import ProcessInput
from atoll_server.engine.model import Exit, Output

START_TIMEOUT: Final = 10.0
# Of one sandbox. More wait here, where waiting is no silence of the agent's: it makes processes one after the other,
# gVisor some thirty a second, and the last of hundreds would pass for one that it does not answer.
STARTS_AT_ONCE: Final = 32
EXIT_MARGIN: Final = 10.0

_KILL_TREE: Final = {"op": "signal", "signal": int(signals.SIGKILL), "tree": True}
_STREAMS: Final = {int(Kind.STDOUT): 1, int(Kind.STDERR): 2}


class Agent(Protocol):
    """What is needed of the client: where its agent listens, what it speaks, and who may ask it for a process now."""

    path: str
    generation: int
    starting: asyncio.Semaphore

    async def signal(self, process: int, signal: int, *, tree: bool) -> int: ...


class AgentProcess:
    """A process of the sandbox: `async with` starts it, `async for` gives its output as it comes and its exit last."""

    process: int
    pid: int

    def __init__(self, agent: Agent, request: StartRequest, kill_on_leave: bool) -> None:
        self._agent = agent
        self._request = request
        self._must_kill = kill_on_leave

    async def __aenter__(self) -> Self:
        async with self._agent.starting:
            await self._start()
        return self

    async def _start(self) -> None:
        self._connection = await Connection.open(self._agent.path)
        try:
            await self._connection.send_control(self._request.fields(self._agent.generation))
            started = await reply(self._connection, STARTED, START_TIMEOUT)
        except AgentError:
            self._connection.close()
            raise
        except BaseException:
            # It may run already, or soon, unknown to us.
            self._connection.leave(_KILL_TREE)
            raise
        self.process, self.pid = started.process, started.pid
        self._input = ProcessInput(self._connection)
        self._output = _Output(self._connection, read_exit)
        self._deadline = self._exit_deadline()

    async def __aexit__(self, *_: object) -> None:
        if self._must_kill and not self._output.has_ended and not self._has_killed_tree():
            return self._connection.leave(_KILL_TREE)
        self._connection.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output | Exit:
        event = await self._output.next(self._patience())
        if event is None:
            raise StopAsyncIteration
        return event

    async def write_stdin(self, data: bytes) -> bool:
        """Feeds the process at its own pace. False once nobody takes it, which is no error."""
        return await self._input.write(data)

    async def close_stdin(self) -> None:
        await self._input.end_of_file()

    async def signal(self, signal: int, *, tree: bool = True) -> int:
        return await self._agent.signal(self.process, signal, tree=tree)

    def _exit_deadline(self) -> float | None:
        if self._request.timeout is None:
            return None
        limit = self._request.timeout + self._request.grace + EXIT_MARGIN
        return asyncio.get_running_loop().time() + limit

    def _patience(self) -> float | None:
        # A slow consumer may get here late; what the agent has to say is then still on its way.
        if self._deadline is None:
            return None
        return max(EXIT_MARGIN, self._deadline - asyncio.get_running_loop().time())

    def _has_killed_tree(self) -> bool:
        # On a connection of its own, because ours may be full of input that the process does not take. It must not
        # wait: leaving is often a cancellation, and what cancelled us may do so again.
        generation = self._agent.generation
        request = {**_KILL_TREE, "generation": generation, "process": self.process}
        return send_alone(self._agent.path, request)


class AttachedProcess:
    """A process that others started. Entered, it says where the output begins that `async for` gives, with the exit
    last; if it was not to be followed, it ends with what there is now. Leaving changes nothing.
    """

    position: int
    stdout: int
    stderr: int
    dropped: int

    def __init__(self, path: str, request: Fields) -> None:
        self._path = path
        self._request = request

    async def __aenter__(self) -> Self:
        self._connection = await begin(self._path, self._request)
        try:
            attached = await reply(self._connection, ATTACHED, START_TIMEOUT)
            if attached.position != attached.stdout + attached.stderr:
                raise AgentProtocolError("a position that is not the sum of its offsets")
        except BaseException:
            self._connection.close()
            raise
        self.position, self.dropped = attached.position, attached.dropped
        self.stdout, self.stderr = attached.stdout, attached.stderr
        self._output = _Output(self._connection, read_end, self.stdout, self.stderr)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """What leaving does. It never waits, and may be repeated."""
        self._connection.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output | Exit:
        event = await self._output.next(None)
        if event is None:
            raise StopAsyncIteration
        return event


class _Output:
    """The frames of a process's output, checked to follow one another, and its end."""

    def __init__(
        self,
        connection: Connection,
        read_last: Callable[[bytes], Exit | None],
        stdout: int = 0,
        stderr: int = 0,
    ) -> None:
        self.has_ended = False
        self._connection = connection
        self._read_last = read_last
        self._offsets = {1: stdout, 2: stderr}

    async def next(self, patience: float | None) -> Output | Exit | None:
        """The next piece, then the exit, then None."""
        if self.has_ended:
            return None
        kind, offset, payload = await self._connection.receive(patience)
        if stream := _STREAMS.get(kind):
            if offset != self._offsets[stream]:
                raise AgentProtocolError(f"output at {offset} instead of {self._offsets[stream]}")
            self._offsets[stream] += len(payload)
            return Output(stream, offset, payload)
        if kind != Kind.CONTROL:
            raise AgentProtocolError(f"frame of kind {kind} from a process")
        exit = self._read_last(payload)
        self.has_ended = True
        return exit
