# SPDX-License-Identifier: Apache-2.0
"""`atoll keys`: who may use a server, and for what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from .. import _wire
from ._each import do_each
from ._help import Command, Group
from ._session import Session
from ._terminal import explain, show, show_json, show_table

if TYPE_CHECKING:
    from atoll import KeyInfo

COLUMNS = ("ID", "NAME", "SCOPES", "FROM", "CREATED")

group = typer.Typer(cls=Group, no_args_is_help=True, add_completion=False)

AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


@group.callback()
def keys() -> None:
    """Make, list and withdraw API keys. The key that you use needs the scope keys:manage; that of the owner has it."""


@group.command(cls=Command)
def create(
    context: typer.Context,
    name: Annotated[str | None, typer.Option("--name", "-n", help="For people.")] = None,
    scopes: Annotated[
        str | None,
        typer.Option(
            "--scopes",
            "-s",
            metavar="SCOPES",
            help='What it may do: "sandbox:read sandbox:files", or full. Else sandbox:*, all but managing keys.',
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it, once: nobody can show it again."""
    session: Session = context.obj
    with session.connect() as client:
        made = client.keys.create(name, scopes=scopes)
    if as_json:
        show_json(_wire.to_plain(made))
        return
    show(made.key or "")
    explain(f"{made.id} may do: {' '.join(made.scopes)}. The key is shown this once.")


@group.command(cls=Command)
def ls(context: typer.Context, as_json: AsJson = False) -> None:
    """List keys, without their texts."""
    session: Session = context.obj
    with session.connect() as client:
        found = client.keys.list()
    if as_json:
        show_json([_wire.to_plain(key) for key in found])
    else:
        show_table(COLUMNS, _rows(found))


@group.command(cls=Command)
def rm(
    context: typer.Context,
    key_ids: Annotated[list[str], typer.Argument(metavar="ID", help="The keys.")],
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of ids.")] = False,
) -> None:
    """Withdraw keys at once, and print their ids."""
    session: Session = context.obj
    with session.connect() as client:

        def end(key_id: str) -> str:
            client.keys.delete(key_id)
            return key_id

        status = do_each(key_ids, end, as_json=as_json)
    raise typer.Exit(status)


def _rows(found: Iterable[KeyInfo]) -> list[tuple[str, ...]]:
    return [
        (key.id, key.name, " ".join(key.scopes), key.source.value, key.created_at or "")
        for key in found
    ]
