# SPDX-License-Identifier: Apache-2.0
"""`atoll shell`: a login shell in a sandbox."""

from __future__ import annotations

from typing import Annotated

import typer

from . import _command
from ._command import own_errors
from ._processes import SandboxId
from ._relay import Relay
from ._session import Session
from ._tty import is_terminal
from ._values import parse_pairs


def shell(
    context: typer.Context,
    sandbox_id: SandboxId,
    user: _command.User = None,
    cwd: _command.Cwd = None,
    env: _command.Env = None,
    tag: Annotated[str | None, typer.Option("--tag", help="A name to come back by.")] = None,
) -> None:
    """Open a login shell in a sandbox, as ssh does.

    Ctrl-P Ctrl-Q leaves it running; `atoll attach` comes back. Where standard input is no terminal, its commands are
    read from there. Ends with the shell's status.
    """
    from .._sync._terminals import LOGIN_SHELL

    session: Session = context.obj
    variables = parse_pairs("--env", env)
    options = {"user": user, "cwd": cwd, "tag": tag}
    with own_errors():
        relay = Relay(session, sandbox_id)
        if is_terminal():
            status = relay.open_terminal(None, env=variables, **options)
        else:
            status = relay.open_pipes(LOGIN_SHELL, env=variables, **options)
    raise typer.Exit(status)
