# SPDX-License-Identifier: Apache-2.0
"""`atoll run`: a sandbox for one command."""

from __future__ import annotations

import typer

from ..models import MAX_COMMAND_TIMEOUT_MS
from . import _command, _limits
from ._command import execute, orderly_end, own_errors, read_stdin
from ._limits import choose_network, choose_secrets, create_sandbox
from ._session import Session
from ._values import choose_command, parse_duration, parse_pairs

CONTEXT_SETTINGS = _command.CONTEXT_SETTINGS
SPARE_MS = 120_000
"""What a sandbox lives longer than its command may: it ends by itself should this program be killed."""


def run(
    context: typer.Context,
    words: _command.Words = None,
    shell: _command.Shell = None,
    image: _limits.Image = None,
    runtime: _limits.RuntimeName = None,
    env: _command.Env = None,
    cwd: _command.Cwd = None,
    user: _command.User = None,
    timeout: _command.TimeLimit = None,
    cpu: _limits.Cpu = None,
    memory: _limits.Memory = None,
    disk: _limits.Disk = None,
    pids: _limits.Pids = None,
    open_files: _limits.OpenFiles = None,
    network: _limits.NetworkDefault = None,
    allow: _limits.Allow = None,
    secret: _limits.Secrets = None,
    no_stdin: _command.NoStdin = False,
    as_json: _command.Json = False,
) -> None:
    """Run a command in a sandbox of its own.

    Makes a sandbox, runs, passes output on as it comes, terminates. Ends with the command's own status: 124 when its
    timeout ended it, 126 or 127 when it could not start, 128 + n for signal n, 125 for errors of Atoll itself.
    """
    session: Session = context.obj
    command = choose_command(words or [], shell)
    variables = parse_pairs("--env", env)
    timeout_ms = parse_duration(timeout)
    with own_errors(), orderly_end(), session.connect(private_will_do=True) as client:
        stdin = read_stdin(not no_stdin)
        with create_sandbox(
            client,
            image=image,
            cpu=cpu,
            memory=memory,
            disk=disk,
            pids=pids,
            open_files=open_files,
            network=choose_network(network, allow),
            secrets=choose_secrets(secret),
            runtime=runtime,
            timeout_ms=(timeout_ms or MAX_COMMAND_TIMEOUT_MS) + SPARE_MS,
        ) as sandbox:
            status = execute(
                sandbox,
                command,
                env=variables,
                cwd=cwd,
                user=user,
                stdin=stdin,
                timeout_ms=timeout_ms,
                as_json=as_json,
            )
    raise typer.Exit(status)
