# SPDX-License-Identifier: Apache-2.0
"""`atoll stats`: what sandboxes use of their host, beside their limits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from .. import _wire
from ..errors import SandboxFailed, SandboxNotFound, SandboxNotRunning
from ..models import SandboxMetrics, SandboxState
from ._session import Session
from ._terminal import render_duration, render_size, show_json, show_table

if TYPE_CHECKING:
    from atoll import Atoll, Sandbox

COLUMNS = ("ID", "CPU", "CPU TIME", "MEMORY", "PROCESSES", "DISK", "OOM KILLS", "UPTIME")
LOOK_SECONDS = 2.0
CLEAR = "\x1b[H\x1b[J"
_GONE = (SandboxNotFound, SandboxNotRunning, SandboxFailed)

Looks = Mapping[str, SandboxMetrics]


def stats(
    context: typer.Context,
    sandbox_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SANDBOX]...", help="Which; without any, all that run."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Again every two seconds, until Ctrl-C.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON list for programs; with --watch one a line.")
    ] = False,
) -> None:
    """Show what sandboxes use of their host beside what they may use, as the host counts it."""
    session: Session = context.obj
    with session.connect() as client:
        # An id that never was is an error; one that ends while being watched is not.
        if sandbox_ids:
            sandboxes = [client.sandboxes.get(sandbox_id) for sandbox_id in sandbox_ids]
            before: Looks = {sandbox.id: sandbox.metrics() for sandbox in sandboxes}
        else:
            before = _look(client, None)
        _show(before, {}, as_json=as_json, clear=watch)
        while watch:
            threading.Event().wait(LOOK_SECONDS)
            now = _look(client, sandbox_ids)
            _show(now, before, as_json=as_json, clear=True)
            before = now


def _look(client: Atoll, sandbox_ids: list[str] | None) -> Looks:
    """What each uses that is still there."""
    found: dict[str, SandboxMetrics] = {}
    for sandbox in _sandboxes(client, sandbox_ids):
        try:
            found[sandbox.id] = sandbox.metrics()
        except _GONE:
            continue
    return found


def _sandboxes(client: Atoll, sandbox_ids: list[str] | None) -> list[Sandbox]:
    if sandbox_ids:
        return [client.sandboxes.get(sandbox_id) for sandbox_id in sandbox_ids]
    return list(client.sandboxes.list(state=SandboxState.RUNNING))


def _show(now: Looks, before: Looks, *, as_json: bool, clear: bool) -> None:
    if as_json:
        show_json([{"id": id, **_wire.to_plain(metrics)} for id, metrics in now.items()])
    else:
        if clear and sys.stdout.isatty():
            sys.stdout.write(CLEAR)
        rows = [_row(id, metrics, before.get(id)) for id, metrics in now.items()]
        show_table(COLUMNS, rows)
    sys.stdout.flush()


def _row(sandbox_id: str, now: SandboxMetrics, before: SandboxMetrics | None) -> tuple[str, ...]:
    return (
        sandbox_id,
        f"{_percent(now, before)} of {now.cpu_limit:g}",
        render_duration(now.cpu_ms),
        f"{render_size(now.memory_bytes)} of {render_size(now.memory_limit_bytes)}",
        f"{now.processes} of {now.processes_limit}",
        f"{render_size(now.disk_bytes)} of {render_size(now.disk_limit_bytes)}",
        str(now.oom_kills),
        render_duration(now.uptime_ms),
    )


def _percent(now: SandboxMetrics, before: SandboxMetrics | None) -> str:
    """Of one processor since the look before; with a first look, since it runs."""
    used, passed = now.cpu_ms, now.uptime_ms
    if before is not None:
        used, passed = used - before.cpu_ms, passed - before.uptime_ms
    return f"{100 * used / max(1, passed):.0f}%"
