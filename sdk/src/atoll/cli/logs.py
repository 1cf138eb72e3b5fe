# SPDX-License-Identifier: Apache-2.0
"""`atoll logs`: what a process wrote, and goes on to write."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import _wire
from ._command import orderly_end
from ._processes import ProcessName, SandboxId, find_process
from ._session import Session
from ._terminal import complain

if TYPE_CHECKING:
    from atoll import ProcessEvent


def logs(
    context: typer.Context,
    sandbox_id: SandboxId,
    process: ProcessName,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the process ends.")
    ] = False,
    since: Annotated[
        int, typer.Option("--since", metavar="POSITION", help="Bytes of output to skip.", min=0)
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for programs.")
    ] = False,
) -> None:
    """Show what a process wrote: its standard output on ours, its standard error on ours."""
    session: Session = context.obj
    show = _show_json if as_json else _show
    with orderly_end(), session.connect() as client:
        found = find_process(client.sandboxes.get(sandbox_id), process)
        for event in found.stream(since, follow=follow):
            show(event)


def _show(event: ProcessEvent) -> None:
    from .._output import Dropped, Stderr, Stdout

    if isinstance(event, Stdout):
        sys.stdout.buffer.write(event.data)
        sys.stdout.buffer.flush()
    elif isinstance(event, Stderr):
        sys.stderr.buffer.write(event.data)
        sys.stderr.buffer.flush()
    elif isinstance(event, Dropped):
        complain(f"{event.size_bytes} bytes of its output are not kept any more")
        sys.stderr.flush()


def _show_json(event: ProcessEvent) -> None:
    sys.stdout.write(json.dumps(_render(event)) + "\n")
    sys.stdout.flush()


def _render(event: ProcessEvent) -> dict[str, Any]:
    from .._output import Dropped, Exit, Stdout

    if isinstance(event, Exit):
        return {"type": "exit", **_wire.to_plain(event.info)}
    if isinstance(event, Dropped):
        return {"type": "dropped", "bytes": event.size_bytes, "position": event.position}
    place = {"offset": event.offset, "position": event.position}
    kind = "stdout" if isinstance(event, Stdout) else "stderr"
    try:
        return {"type": kind, "data": event.data.decode(), **place}
    except UnicodeDecodeError:
        data = base64.b64encode(event.data).decode()
        return {"type": kind, "data": data, "encoding": "base64", **place}
