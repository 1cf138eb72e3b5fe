# SPDX-License-Identifier: Apache-2.0
"""One sandbox, as a program holds it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any

from .. import _requests, _wire
from .._colour import AsyncOnLine
from .._feed import check_sandbox_types
from ..errors import CommandFailed, SandboxNotFound
from ..models import (
    Event,
    ExecResult,
    ListeningPort,
    PortInfo,
    Resources,
    Runtime,
    SandboxInfo,
    SandboxMetrics,
    SandboxState,
)
from ._exec import AsyncOutput, run_streamed
from ._feed import AsyncOnEvent, AsyncSubscription, read_events, subscribe
from ._files import AsyncFiles
from ._leaving import end_with_block
from ._network import AsyncSandboxNetwork
from ._ports import DEFAULT_WAIT_MS, AsyncPorts, AsyncPortStream
from ._processes import AsyncProcesses
from ._terminals import AsyncTerminals
from ._transport import AsyncTransport

TERMINATE_SECONDS = 40.0
"""How long leaving a `with` block whose task was cancelled may take."""


class AsyncSandbox:
    """A sandbox: where commands run and files are.

    Its attributes are as of the last answer about it; `refresh` asks anew. As a context manager it is terminated at
    the end of the block. Acting on a terminated sandbox raises `SandboxNotFound`.
    """

    def __init__(self, transport: AsyncTransport, info: SandboxInfo) -> None:
        self._transport = transport
        self._info = info
        self._files = AsyncFiles(transport, info.id, info.resources.disk_mb)
        self._network = AsyncSandboxNetwork(transport, info.id)
        self._processes = AsyncProcesses(transport, info.id)
        self._ports = AsyncPorts(transport, info.id)
        self._terminals = AsyncTerminals(transport, info.id, self._processes)

    @property
    def info(self) -> SandboxInfo:
        """Everything that the server said about it."""
        return self._info

    @property
    def id(self) -> str:
        """Its name on the server, to be taken as opaque."""
        return self._info.id

    @property
    def state(self) -> SandboxState:
        """Where it is in its life."""
        return self._info.state

    @property
    def image(self) -> str:
        """What its root file system started from."""
        return self._info.image

    @property
    def runtime(self) -> Runtime:
        """What isolates it; never `auto`."""
        return self._info.runtime

    @property
    def isolation(self) -> str:
        """How it is isolated, in words."""
        return self._info.isolation

    @property
    def resources(self) -> Resources:
        """Its limits."""
        return self._info.resources

    @property
    def env(self) -> dict[str, str]:
        """What every command sees in its environment."""
        return self._info.env

    @property
    def metadata(self) -> dict[str, str]:
        """Your labels."""
        return self._info.metadata

    @property
    def workdir(self) -> str:
        """Where commands start and relative paths begin."""
        return self._info.workdir

    @property
    def created_at(self) -> str:
        """ISO 8601, UTC."""
        return self._info.created_at

    @property
    def started_at(self) -> str | None:
        """ISO 8601, UTC."""
        return self._info.started_at

    @property
    def paused_at(self) -> str | None:
        """ISO 8601, UTC; None while not paused."""
        return self._info.paused_at

    @property
    def terminated_at(self) -> str | None:
        """ISO 8601, UTC; None while not terminated."""
        return self._info.terminated_at

    @property
    def reason(self) -> str | None:
        """Why it ended: `user`, `timeout`, `error`, `shutdown` or `lost`."""
        return self._info.reason

    @property
    def files(self) -> AsyncFiles:
        """Its files."""
        return self._files

    @property
    def network(self) -> AsyncSandboxNetwork:
        """What it may reach."""
        return self._network

    @property
    def processes(self) -> AsyncProcesses:
        """Its processes, which go on without whoever started them."""
        return self._processes

    @property
    def terminals(self) -> AsyncTerminals:
        """Its terminals, to type at."""
        return self._terminals

    @property
    def ports(self) -> AsyncPorts:
        """Its ports: those that the outside reaches, and those that listen inside."""
        return self._ports

    async def expose_port(self, port: int, *, private: bool | None = None) -> PortInfo:
        """Lets the outside reach a port, and says at which `url`; as `ports.expose`."""
        return await self._ports.expose(port, private=private)

    async def get_ports(self) -> list[PortInfo]:
        """The exposed ports, by number; as `ports.list`."""
        return await self._ports.list()

    async def close_port(self, port: int) -> None:
        """Lets nobody reach a port any more; as `ports.close`."""
        await self._ports.close(port)

    async def wait_for_port(self, port: int, *, timeout_ms: int = DEFAULT_WAIT_MS) -> ListeningPort:
        """Waits until something listens on a port; as `ports.wait_for`."""
        return await self._ports.wait_for(port, timeout_ms=timeout_ms)

    async def dial(self, port: int) -> AsyncPortStream:
        """A connection to any TCP port inside; as `ports.dial`."""
        return await self._ports.dial(port)

    async def exec(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        run_as: str | None = None,
        stdin: str | bytes | None = None,
        timeout_ms: int | None = None,
        on_stdout: AsyncOnLine | None = None,
        on_stderr: AsyncOnLine | None = None,
        check: bool = False,
    ) -> ExecResult:
        """Runs a command and waits for its end.

        Text goes to a shell (bash where there is one); a sequence runs as is. Each call starts afresh in `cwd`, or
        the sandbox's `workdir`. `env` is added to the sandbox's. `user` (`run_as` means the same) is a name or uid,
        root by default. `stdin` is fed to it, then end of file. After `timeout_ms` (60,000 by default, 300,000 at
        most) its whole tree gets SIGTERM and 5 s later SIGKILL: `exit_code` is then None, `timed_out` True.

        `on_stdout` and `on_stderr` get each line, without its end, while the command runs; a line longer than 1 MiB
        comes in pieces. The result then keeps the last 10 MiB of each stream. A slow callback slows the command.
        An exception in one, or Ctrl-C, or cancelling, kills the command.

        A command that fails is a result, with `check=True` a `CommandFailed`. One that could not start raises
        `CommandNotStarted`.
        """
        values = _requests.exec_values(
            command, cwd=cwd, env=env, user=user, run_as=run_as, stdin=stdin, timeout_ms=timeout_ms
        )
        if on_stdout is None and on_stderr is None:
            request = _requests.execute(self.id, values, framed=False)
            result = await self._transport.ask(ExecResult, request)
        else:
            result = await self._run(values, AsyncOutput(on_stdout), AsyncOutput(on_stderr))
        if check and not result.ok:
            raise CommandFailed(result)
        return result

    async def _run(
        self, values: Mapping[str, Any], stdout: AsyncOutput, stderr: AsyncOutput
    ) -> ExecResult:
        """Runs a command with its streams going where they are told to, also for the command line."""
        request = _requests.execute(self.id, values, framed=True)
        return await run_streamed(self._transport, request, stdout, stderr)

    async def refresh(self) -> None:
        """Brings the attributes up to date."""
        request = _requests.get_sandbox(self.id)
        self._info = await self._transport.ask(SandboxInfo, request)

    async def metrics(self) -> SandboxMetrics:
        """What it uses of its host now, beside its limits: processors, memory, processes, disk.

        Counted by the host, so that it answers however busy the sandbox is. With `gvisor` the kernel that isolates it
        counts, too.
        """
        request = _requests.get_metrics(self.id)
        return await self._transport.ask(SandboxMetrics, request)

    async def events(
        self,
        types: str | Sequence[str] | None = None,
        *,
        since: str | None = None,
        follow: bool = True,
    ) -> AsyncGenerator[Event, None]:
        """What happens to this sandbox and in it, until it has ended; as `events` of the client."""
        wanted = () if types is None else check_sandbox_types(types)
        feed = read_events(self._transport, self.id, wanted, since, follow=follow)
        async with aclosing(feed) as events:
            async for event in events:
                yield event

    async def on(self, types: str | Sequence[str], on_event: AsyncOnEvent) -> AsyncSubscription:
        """Calls `on_event` with each event of these `types` that happens from now on; `"*"` is all of them.

        `terminated` is short for `sandbox.terminated`, and so on. `started`, which has happened already, is told
        once all the same, unless the server was restarted since. `on_event` is called beside the rest of the program;
        see the subscription that this returns. Raises `InvalidRequest` for a type that there is not.
        """
        wanted = check_sandbox_types(types)
        from_start = wanted == ("sandbox.started",)
        return await subscribe(self._transport, self.id, wanted, on_event, from_start=from_start)

    async def terminate(self) -> None:
        """Ends the sandbox and everything in it. May be repeated."""
        try:
            answer = await self._transport.send(_requests.terminate_sandbox(self.id))
        except SandboxNotFound:
            answer = b""  # long gone, record and all: what was wanted
        if answer:
            self._info = _wire.decode(SandboxInfo, answer)
        else:
            self._info = dataclasses.replace(self._info, state=SandboxState.TERMINATED)

    async def __aenter__(self) -> AsyncSandbox:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        undone = f"sandbox {self.id} was not terminated"
        await end_with_block(self.terminate, TERMINATE_SECONDS, error, undone)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state.value} {self.image} {self.runtime.value}>"
