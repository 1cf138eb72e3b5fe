# SPDX-License-Identifier: Apache-2.0
"""`atoll rm`: the end of sandboxes."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import _wire
from ..errors import Error
from ._exits import exit_status
from ._session import Session
from ._terminal import complain, show, show_json
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
    status = 0
    ended = []
    with session.connect() as client:
        wanted = [sandbox.id for sandbox in find_live(client)] if everything else sandbox_ids or []
        for sandbox_id in wanted:
            try:
                sandbox = client.sandboxes.get(sandbox_id)
                sandbox.terminate()
            except Error as error:
                complain(f"{sandbox_id}: {error.message}")
                status = exit_status(error)
                continue
            ended.append(sandbox.info)
            if not as_json:
                show(sandbox.id)
    if as_json:
        show_json([_wire.to_plain(info) for info in ended])
    raise typer.Exit(status)
