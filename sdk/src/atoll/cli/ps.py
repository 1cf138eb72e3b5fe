# SPDX-License-Identifier: Apache-2.0
"""`atoll ps`: which processes a sandbox has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from .. import _wire
from ..models import ProcessStatus
from ._processes import SandboxId, render_command
from ._session import Session
from ._terminal import render_age, show, show_json, show_table

if TYPE_CHECKING:
    from atoll import Process

COLUMNS = ("ID", "PID", "STATUS", "USER", "AGE", "TAG", "COMMAND")
MAX_COMMAND = 60


def ps(
    context: typer.Context,
    sandbox_id: SandboxId,
    status: Annotated[
        list[ProcessStatus] | None,
        typer.Option("--status", "-s", help="Only those; may be repeated."),
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only those with this tag.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Those that have ended too.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="At most so many.", min=1, max=1000)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only ids.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list for programs.")] = False,
) -> None:
    """List the processes of a sandbox, newest first; without options those that run."""
    session: Session = context.obj
    wanted = status or (None if everything else [ProcessStatus.RUNNING])
    with session.connect() as client:
        sandbox = client.sandboxes.get(sandbox_id)
        found = list(sandbox.processes.list(status=wanted, tag=tag, limit=limit))
    if as_json:
        show_json([_wire.to_plain(process.info) for process in found])
    elif quiet:
        for process in found:
            show(process.id)
    else:
        now = datetime.now(UTC)
        show_table(COLUMNS, [_row(process, now) for process in found])


def _row(process: Process, now: datetime) -> tuple[str, ...]:
    command = render_command(process.command)
    return (
        process.id,
        str(process.pid),
        _status(process),
        process.user,
        render_age(process.started_at, now),
        process.tag or "",
        command if len(command) <= MAX_COMMAND else command[: MAX_COMMAND - 1] + "…",
    )


def _status(process: Process) -> str:
    """Its status, and with it what else tells how it ended."""
    how = process.signal_name or process.exit_code
    return process.status.value if how is None else f"{process.status.value} ({how})"
