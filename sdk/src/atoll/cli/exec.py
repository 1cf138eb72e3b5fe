# SPDX-License-Identifier: Apache-2.0
"""`atoll exec`: a command in a sandbox that is there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .. import _wire
from . import _command
from ._command import execute, orderly_end, own_errors, read_stdin
from ._session import Session
from ._terminal import complain, show, show_json
from ._tty import is_terminal, terminal_size
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
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Pass standard input on as it comes.")
    ] = False,
    terminal: Annotated[
        bool, typer.Option("--tty", "-t", help="At a terminal, which is this one. Implies -i.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Only start it, and print its id.")
    ] = False,
    tag: Annotated[
        str | None, typer.Option("--tag", help="With -d, -i or -t: a name to find it by.")
    ] = None,
    no_stdin: _command.NoStdin = False,
    as_json: _command.Json = False,
) -> None:
    """Run a command in a sandbox.

    Ends with the command's own status, as `run` does. Ctrl-C ends the command, not the sandbox. With `-it` it is at
    this terminal, as with ssh: Ctrl-P Ctrl-Q leaves it running, and `atoll attach` comes back.
    """
    session: Session = context.obj
    command = choose_command(words or [], shell)
    variables = parse_pairs("--env", env)
    timeout_ms = parse_duration(timeout)
    process = {"env": variables, "cwd": cwd, "user": user, "timeout_ms": timeout_ms, "tag": tag}
    _check_options(interactive or terminal, detach, tag, as_json)
    if detach:
        with own_errors():
            _start(session, sandbox_id, command, as_json, terminal=terminal, **process)
        return
    if interactive or terminal:
        with own_errors():
            raise typer.Exit(_talk(session, sandbox_id, command, terminal=terminal, **process))
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


def _check_options(is_interactive: bool, detach: bool, tag: str | None, as_json: bool) -> None:
    if as_json and is_interactive and not detach:
        raise typer.BadParameter("--json shows a whole result, which -i and -t do not wait for")
    if tag is not None and not (is_interactive or detach):
        raise typer.BadParameter("--tag needs -d, -i or -t")


def _start(
    session: Session,
    sandbox_id: str,
    command: str | list[str],
    as_json: bool,
    *,
    terminal: bool,
    **options: Any,
) -> None:
    size = terminal_size() if terminal else None
    with session.connect() as client:
        sandbox = client.sandboxes.get(sandbox_id)
        process = sandbox.processes.start(command, pty=size, **options)
    if as_json:
        show_json(_wire.to_plain(process.info))
    else:
        show(process.id)


def _talk(
    session: Session, sandbox_id: str, command: str | list[str], *, terminal: bool, **options: Any
) -> int:
    from ._relay import Relay

    relay = Relay(session, sandbox_id)
    if terminal and is_terminal():
        return relay.open_terminal(command, **options)
    if terminal:
        complain("standard input is no terminal, so none is made")
    return relay.open_pipes(command, **options)
