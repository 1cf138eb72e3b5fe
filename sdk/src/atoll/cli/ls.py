# SPDX-License-Identifier: Apache-2.0
"""`atoll ls`: which sandboxes there are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from .. import _wire
from ..models import SandboxState
from ._session import Session
from ._terminal import render_age, show, show_json, show_table
from ._values import parse_pairs

if TYPE_CHECKING:
    from atoll import Atoll, Sandbox

LIVE = (SandboxState.CREATING, SandboxState.RUNNING, SandboxState.PAUSED, SandboxState.FAILED)
COLUMNS = ("ID", "STATE", "IMAGE", "RUNTIME", "CPU", "MEMORY", "AGE", "METADATA")


def ls(
    context: typer.Context,
    state: Annotated[
        SandboxState | None, typer.Option("--state", "-s", help="Only those in this state.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata",
            "-m",
            metavar="KEY=VALUE",
            help="Only those with this label; may be repeated.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Terminated ones too.")] = False,
    limit: Annotated[int | None, typer.Option(help="At most so many.", min=1)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only ids.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list for programs.")] = False,
) -> None:
    """List sandboxes, newest first; without options those that are not terminated."""
    session: Session = context.obj
    labels = parse_pairs("--metadata", metadata)
    with session.connect() as client:
        found = _find(client, state, labels, everything)[:limit]
    if as_json:
        show_json([_wire.to_plain(sandbox.info) for sandbox in found])
    elif quiet:
        for sandbox in found:
            show(sandbox.id)
    else:
        show_table(COLUMNS, [_row(sandbox) for sandbox in found])


def find_live(client: Atoll, labels: dict[str, str] | None = None) -> list[Sandbox]:
    """All that are not terminated, newest first."""
    found = [
        sandbox for state in LIVE for sandbox in client.sandboxes.list(state=state, metadata=labels)
    ]
    return sorted(found, key=lambda sandbox: sandbox.created_at, reverse=True)


def _find(
    client: Atoll, state: SandboxState | None, labels: dict[str, str] | None, everything: bool
) -> list[Sandbox]:
    if state is None and not everything:
        return find_live(client, labels)
    return list(client.sandboxes.list(state=state, metadata=labels))


def _row(sandbox: Sandbox) -> tuple[str, ...]:
    labels = " ".join(f"{key}={value}" for key, value in sorted(sandbox.metadata.items()))
    return (
        sandbox.id,
        sandbox.state.value,
        sandbox.image,
        sandbox.runtime.value,
        f"{sandbox.resources.cpu:g}",
        f"{sandbox.resources.memory_mb}M",
        render_age(sandbox.created_at, datetime.now(UTC)),
        labels,
    )
