# SPDX-License-Identifier: Apache-2.0
"""`atoll create`: a sandbox that stays."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import _wire
from . import _limits
from ._limits import choose_network, choose_secrets, create_sandbox
from ._session import Session
from ._terminal import show, show_json
from ._values import parse_duration, parse_pairs


def create(
    context: typer.Context,
    image: _limits.Image = None,
    runtime: _limits.RuntimeName = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env", "-e", metavar="KEY=VALUE", help="Seen by every command; may be repeated."
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", "-m", metavar="KEY=VALUE", help="A label; may be repeated."),
    ] = None,
    workdir: Annotated[
        str | None, typer.Option("--workdir", "-w", help="Where commands start; else /workspace.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(help="Lifetime: 30s, 5m, 24h. Else 5m; 24h at most.")
    ] = None,
    idle_timeout: Annotated[
        str | None, typer.Option(help="How long it may be idle; acts once pausing exists.")
    ] = None,
    cpu: _limits.Cpu = None,
    memory: _limits.Memory = None,
    disk: _limits.Disk = None,
    pids: _limits.Pids = None,
    open_files: _limits.OpenFiles = None,
    network: _limits.NetworkDefault = None,
    allow: _limits.Allow = None,
    secret: _limits.Secrets = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for programs.")] = False,
) -> None:
    """Make a sandbox, and print its id."""
    session: Session = context.obj
    variables, labels = parse_pairs("--env", env), parse_pairs("--metadata", metadata)
    timeout_ms, idle_timeout_ms = parse_duration(timeout), parse_duration(idle_timeout)
    with session.connect() as client:
        sandbox = create_sandbox(
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
            env=variables,
            metadata=labels,
            workdir=workdir,
            timeout_ms=timeout_ms,
            idle_timeout_ms=idle_timeout_ms,
        )
    if as_json:
        show_json(_wire.to_plain(sandbox.info))
    else:
        show(sandbox.id)
