# SPDX-License-Identifier: Apache-2.0
"""`atoll kill`: the end of processes, or another signal."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import _wire
from ..errors import Error
from ._exits import exit_status
from ._processes import SandboxId, find_process
from ._session import Session
from ._terminal import complain, show, show_json


def kill(
    context: typer.Context,
    sandbox_id: SandboxId,
    processes: Annotated[
        list[str], typer.Argument(metavar="PROCESS", help="The processes: ids, pids or tags.")
    ],
    signal: Annotated[
        str | None,
        typer.Option("--signal", "-s", help="TERM, INT, HUP, 15 and so on; else KILL."),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="With --signal: not to what it started.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list for programs.")] = False,
) -> None:
    """End processes and all that they started, and print their ids; or send them a signal."""
    session: Session = context.obj
    if alone and signal is None:
        raise typer.BadParameter("--alone needs --signal")
    status = 0
    done = []
    with session.connect() as client:
        sandbox = client.sandboxes.get(sandbox_id)
        for name in processes:
            try:
                process = find_process(sandbox, name)
                if signal is None:
                    process.kill()
                else:
                    process.signal(signal, tree=not alone)
            except Error as error:
                complain(f"{name}: {error.message}")
                status = exit_status(error)
                continue
            done.append(process.info)
            if not as_json:
                show(process.id)
    if as_json:
        show_json([_wire.to_plain(info) for info in done])
    raise typer.Exit(status)
