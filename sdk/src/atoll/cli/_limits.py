# SPDX-License-Identifier: Apache-2.0
"""The options with which `run` and `create` describe a sandbox."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._terminal import spinner
from ._values import parse_pairs, parse_size

if TYPE_CHECKING:
    from atoll import Atoll, Sandbox, Secret

DEFAULT_IMAGE = "host"

Image = Annotated[str | None, typer.Option("--image", "-i", help="Root file system; else `host`.")]
RuntimeName = Annotated[
    str | None, typer.Option("--runtime", "-r", help="auto, gvisor or container.")
]
Cpu = Annotated[
    float | None, typer.Option(help="CPUs: 2, 4 or 8; what else the server takes, such as 0.5.")
]
Memory = Annotated[str | None, typer.Option(help="Memory in MiB, or such as 4g.")]
Disk = Annotated[str | None, typer.Option(help="Disk in MiB, or such as 10g.")]
Pids = Annotated[int | None, typer.Option(help="Processes and threads at once.")]
OpenFiles = Annotated[int | None, typer.Option(help="Open files of one process.")]
NetworkDefault = Annotated[
    str | None,
    typer.Option(
        help="What it may reach: none, deny or allow; else as the server has it, with --allow deny."
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="May be reached: example.com, *.example.com:22; may be repeated."
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME=HOST[,HOST]",
        help="Send the value of the variable NAME to these hosts alone; inside it is a placeholder. May be repeated.",
    ),
]


def choose_secrets(texts: list[str] | None) -> dict[str, Secret] | None:
    """The secrets that these options name. Values come from the environment: arguments are seen by everybody."""
    from atoll import Secret

    secrets = {}
    for name, hosts in (parse_pairs("--secret", texts) or {}).items():
        value = os.environ.get(name)
        if not value:
            raise typer.BadParameter(f"--secret {name}: there is no environment variable {name}")
        secrets[name] = Secret(value, hosts=[host.strip() for host in hosts.split(",")])
    return secrets or None


def choose_network(network: str | None, allow: list[str] | None) -> dict[str, Any] | None:
    """The policy that these options mean; None where none of them was given. `--allow` alone denies the rest."""
    if network is None and not allow:
        return None
    return {"default": network or "deny", "allow": allow or []}


def create_sandbox(
    client: Atoll,
    *,
    image: str | None,
    cpu: float | None,
    memory: str | None,
    disk: str | None,
    **others: Any,
) -> Sandbox:
    """Makes it, with a spinner where that takes long."""
    with spinner("creating a sandbox"):
        return client.sandboxes.create(
            image or client.defaults.get("image") or DEFAULT_IMAGE,
            cpu=cpu,
            memory_mb=parse_size(memory),
            disk_mb=parse_size(disk),
            **others,
        )
