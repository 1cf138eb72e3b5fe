# SPDX-License-Identifier: Apache-2.0
"""`atoll port`: exposes a port of a sandbox, closes it, or shows which there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .. import _wire
from ..models import PortInfo
from ._processes import SandboxId
from ._session import Session
from ._terminal import show, show_json, show_table

if TYPE_CHECKING:
    from atoll import Sandbox

COLUMNS = ("PORT", "LISTENS", "EXPOSED", "COMMAND")
TOKEN_PARAMETER = "atoll-preview-token"


def port(
    context: typer.Context,
    sandbox_id: SandboxId,
    number: Annotated[
        int | None, typer.Argument(metavar="[PORT]", help="The port; without it all are shown.")
    ] = None,
    close: Annotated[bool, typer.Option("--close", help="Let nobody reach it any more.")] = False,
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public",
            help="Whether a token is needed; else it stays as it is, and a new one is public.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Expose a port and print its URL; a private one's opens it by itself, for it bears the token."""
    if number is None and (close or private is not None):
        raise typer.BadParameter("which port? say its number")
    session: Session = context.obj
    with session.connect() as client:
        sandbox = client.sandboxes.get(sandbox_id)
        if number is None:
            _show_all(sandbox, as_json=as_json)
        elif close:
            sandbox.close_port(number)
        else:
            exposed = sandbox.expose_port(number, private=private)
            show_json(_wire.to_plain(exposed)) if as_json else show(url_with_token(exposed))


def url_with_token(exposed: PortInfo) -> str:
    """A URL that a browser can open."""
    if exposed.token is None:
        return exposed.url
    return f"{exposed.url}?{TOKEN_PARAMETER}={exposed.token}"


def _show_all(sandbox: Sandbox, *, as_json: bool) -> None:
    exposed, listening = sandbox.get_ports(), sandbox.ports.listening()
    if as_json:
        plain = [_wire.to_plain(one) for one in exposed], [_wire.to_plain(one) for one in listening]
        show_json(dict(zip(("exposed", "listening"), plain, strict=True)))
        return
    urls = {one.port: one.url + (" (private)" if one.private else "") for one in exposed}
    commands = {one.port: one.command or "" for one in listening}
    addresses: dict[int, list[str]] = {}
    for one in listening:
        addresses.setdefault(one.port, []).append(one.address)
    rows = [
        (
            str(number),
            " ".join(addresses.get(number, ["no"])),
            urls.get(number, "no"),
            commands.get(number, ""),
        )
        for number in sorted({*urls, *addresses})
    ]
    show_table(COLUMNS, rows)
