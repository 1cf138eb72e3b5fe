# SPDX-License-Identifier: Apache-2.0
"""`atoll rm`: the end of sandboxes."""

from __future__ import annotations

from typing import Annotated

import typer

from ..models import SandboxInfo
from ._each import do_each
from ._session import Session
from .ls import find_live


def rm(
    context: typer.Context,
    sandbox_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="The sandboxes.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="All that are not terminated.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list for programs.")] = False,
) -> None:
    """Terminate sandboxes, and print their ids. Doing it again is harmless."""
    session: Session = context.obj
    if everything == bool(sandbox_ids):
        raise typer.BadParameter("give either ids or --all")
    with session.connect() as client:

        def end(sandbox_id: str) -> SandboxInfo:
            sandbox = client.sandboxes.get(sandbox_id)
            sandbox.terminate()
            return sandbox.info

        wanted = [sandbox.id for sandbox in find_live(client)] if everything else sandbox_ids or []
        status = do_each(wanted, end, as_json=as_json)
    raise typer.Exit(status)
