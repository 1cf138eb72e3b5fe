# SPDX-License-Identifier: Apache-2.0
"""`atoll attach`: this terminal at a process that is there."""

from __future__ import annotations

import typer

from ._command import own_errors
from ._processes import ProcessName, SandboxId, find_process
from ._relay import Relay
from ._session import Session
from ._tty import is_terminal


def attach(context: typer.Context, sandbox_id: SandboxId, process: ProcessName) -> None:
    """Watch a process and type to it.

    At a terminal Ctrl-P Ctrl-Q leaves it running. Ends with the process's own status when that ends. Leaving in any
    way does nothing to the process.
    """
    session: Session = context.obj
    with own_errors():
        with session.connect() as client:
            found = find_process(client.sandboxes.get(sandbox_id), process)
        relay = Relay(session, sandbox_id)
        if found.pty is not None:
            status = relay.attach_terminal(found.id, takes_size=is_terminal())
        else:
            status = relay.attach_pipes(found.id, takes_input=found.stdin_open)
    raise typer.Exit(status)
