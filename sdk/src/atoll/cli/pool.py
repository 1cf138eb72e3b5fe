# SPDX-License-Identifier: Apache-2.0
"""`atoll pool`: what a server holds ready for whoever asks next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .. import _wire
from ._session import Session
from ._terminal import render_size, show_json, show_table

if TYPE_CHECKING:
    from atoll import PoolShape

COLUMNS = (
    "IMAGE",
    "RUNTIME",
    "MEMORY",
    "DISK",
    "NETWORK",
    "IDLE",
    "BUILDING",
    "TARGET",
    "HITS",
    "MISSES",
)


def pool(
    context: typer.Context,
    size: Annotated[
        int | None,
        typer.Option(
            min=0, max=1000, help="Hold so many ready from now on, until the server ends."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Show the sandboxes that a server holds ready, or have it hold another number."""
    session: Session = context.obj
    with session.connect() as client:
        found = client.pool() if size is None else client.resize_pool(size)
    if as_json:
        show_json(_wire.to_plain(found))
    else:
        show_table(COLUMNS, [_row(shape) for shape in found.shapes])


def _row(shape: PoolShape) -> tuple[str, ...]:
    numbers = (shape.idle, shape.building, shape.target, shape.hits, shape.misses)
    network = "yes" if shape.network else "none"
    sizes = (render_size(shape.memory_mb << 20), render_size(shape.disk_mb << 20))
    return (shape.image, shape.runtime.value, *sizes, network, *map(str, numbers))
