# SPDX-License-Identifier: Apache-2.0
"""`atoll kill`: the end of processes, or another signal."""

from __future__ import annotations

from typing import Annotated

import typer

from ..models import ProcessInfo
from ._each import do_each
from ._processes import SandboxId, find_process
from ._session import Session


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
    with session.connect() as client:
        sandbox = client.sandboxes.get(sandbox_id)

        def end(name: str) -> ProcessInfo:
            process = find_process(sandbox, name)
            if signal is None:
                process.kill()
            else:
                process.signal(signal, tree=not alone)
            return process.info

        status = do_each(processes, end, as_json=as_json)
    raise typer.Exit(status)
