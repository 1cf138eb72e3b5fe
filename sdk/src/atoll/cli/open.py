# SPDX-License-Identifier: Apache-2.0
"""`atoll open`: a port of a sandbox in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from ._processes import SandboxId
from ._session import Session
from ._terminal import show
from .port import url_with_token


def open(
    context: typer.Context,
    sandbox_id: SandboxId,
    number: Annotated[int, typer.Argument(metavar="PORT", help="The port.")],
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="As of `atoll port`.")
    ] = None,
    wait_ms: Annotated[
        int, typer.Option(help="How long to wait for something to listen there.")
    ] = 30_000,
) -> None:
    """Expose a port, wait until something listens there, and open its URL in a browser."""
    session: Session = context.obj
    with session.connect() as client:
        sandbox = client.sandboxes.get(sandbox_id)
        exposed = sandbox.expose_port(number, private=private)
        sandbox.wait_for_port(number, timeout_ms=wait_ms)
    url = url_with_token(exposed)
    show(url)
    typer.launch(url)
