# SPDX-License-Identifier: Apache-2.0
"""`atoll exec`: a command in a sandbox that is there."""

from __future__ import annotations

from typing import Annotated

import typer

from . import _command
from ._command import execute, orderly_end, own_errors, read_stdin
from ._session import Session
from ._values import choose_command, parse_duration, parse_pairs

CONTEXT_SETTINGS = _command.CONTEXT_SETTINGS


def exec(
    context: typer.Context,
    sandbox_id: Annotated[str, typer.Argument(metavar="ID", help="The sandbox.")],
    words: _command.Words = None,
    shell: _command.Shell = None,
    env: _command.Env = None,
    cwd: _command.Cwd = None,
    user: _command.User = None,
    timeout: _command.TimeLimit = None,
    no_stdin: _command.NoStdin = False,
    as_json: _command.Json = False,
) -> None:
    """Run a command in a sandbox.

    Ends with the command's own status, as `run` does. Ctrl-C ends the command, not the sandbox.
    """
    session: Session = context.obj
    command = choose_command(words or [], shell)
    variables = parse_pairs("--env", env)
    timeout_ms = parse_duration(timeout)
    with own_errors(), orderly_end(), session.connect() as client:
        stdin = read_stdin(not no_stdin)
        status = execute(
            client.sandboxes.get(sandbox_id),
            command,
            env=variables,
            cwd=cwd,
            user=user,
            stdin=stdin,
            timeout_ms=timeout_ms,
            as_json=as_json,
        )
    raise typer.Exit(status)
