# SPDX-License-Identifier: Apache-2.0
"""`atoll forward`: ports of this machine that lead to ports inside a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import Error
from ._processes import SandboxId
from ._session import Session
from ._terminal import complain, explain

if TYPE_CHECKING:
    from atoll import AsyncPortStream, AsyncSandbox

HIGHEST_PORT = 65_535
PIECE_BYTES = 256 * 1024


def forward(
    context: typer.Context,
    sandbox_id: SandboxId,
    ports: Annotated[
        list[str],
        typer.Argument(metavar="[LOCAL:]PORT...", help="8080:3000, or 3000 for the same here."),
    ],
    address: Annotated[
        str, typer.Option(help="Where to listen; others than the loopback let others in.")
    ] = "127.0.0.1",
) -> None:
    """Pass connections to ports of this machine on to a sandbox, until Ctrl-C. Nothing is exposed by it."""
    pairs = [_parse(text) for text in ports]
    session: Session = context.obj
    asyncio.run(_forward(session, sandbox_id, address, pairs))


def _parse(text: str) -> tuple[int, int]:
    """The local and the remote port."""
    local, _, remote = text.rpartition(":")
    numbers = [local or remote, remote]
    if not all(number.isascii() and number.isdecimal() for number in numbers):
        raise typer.BadParameter(f"a port or two with a colon between them, not {text!r}")
    found = int(numbers[0]), int(numbers[1])
    if found[0] > HIGHEST_PORT or not 0 < found[1] <= HIGHEST_PORT:
        raise typer.BadParameter(f"ports are at most {HIGHEST_PORT}, not {text!r}")
    return found


async def _forward(
    session: Session, sandbox_id: str, address: str, pairs: list[tuple[int, int]]
) -> None:
    async with session.connect_async() as client, contextlib.AsyncExitStack() as stack:
        sandbox = await client.sandboxes.get(sandbox_id)
        for local, remote in pairs:
            serve = functools.partial(_serve, sandbox, remote)
            server = await stack.enter_async_context(
                await asyncio.start_server(serve, address, local)
            )
            host, port = server.sockets[0].getsockname()[:2]
            explain(f"{host}:{port} leads to port {remote} of {sandbox_id}; Ctrl-C ends it")
        await asyncio.Event().wait()


async def _serve(
    sandbox: AsyncSandbox, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One connection. What goes wrong with it is said, and harms no other."""
    try:
        async with await sandbox.dial(port) as stream, asyncio.TaskGroup() as ways:
            ways.create_task(_pass_in(reader, stream))
            ways.create_task(_pass_out(stream, writer))
    except* Error as group:
        complain(str(group.exceptions[0]))
    except* OSError:
        pass  # who connected has gone
    finally:
        writer.close()


async def _pass_in(reader: asyncio.StreamReader, stream: AsyncPortStream) -> None:
    while data := await reader.read(PIECE_BYTES):
        await stream.send(data)
    await stream.close_write()


async def _pass_out(stream: AsyncPortStream, writer: asyncio.StreamWriter) -> None:
    while data := await stream.receive():
        writer.write(data)
        await writer.drain()
    writer.write_eof()
