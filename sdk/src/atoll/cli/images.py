# SPDX-License-Identifier: Apache-2.0
"""`atoll images`: what sandboxes can be made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .. import _wire
from ..models import ImageKind
from ._session import Session
from ._terminal import show_json, show_table

if TYPE_CHECKING:
    from atoll import ImageInfo

COLUMNS = ("NAME", "WHAT")


def images(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list for programs.")] = False,
) -> None:
    """List the images of a server."""
    session: Session = context.obj
    with session.connect(private_will_do=True) as client:
        found = client.images()
    if as_json:
        show_json([_wire.to_plain(image) for image in found])
    else:
        show_table(COLUMNS, [(image.name, _describe(image)) for image in found])


def _describe(image: ImageInfo) -> str:
    if image.kind is ImageKind.ALIAS:
        return f"the same as {image.alias_of}"
    if image.kind is ImageKind.HOST:
        return "the programs of the server's host"
    return "a directory of the server's operator"
