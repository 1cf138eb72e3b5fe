# SPDX-License-Identifier: Apache-2.0
"""`atoll serve`: the server, on this host, in the foreground."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidConfig
from ._session import read_key_file


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; else 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(help="TCP port; else 7420. 0 takes a free one.", min=0, max=65535)
    ] = None,
    socket: Annotated[Path | None, typer.Option(help="Unix socket to listen on besides.")] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            "--api-key",
            metavar="KEY",
            help="Key that clients need; may be repeated. Others on this host can see it here: rather use a file.",
        ),
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File with that key.")] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="What must survive a reboot; else /var/lib/atoll.")
    ] = None,
    run_dir: Annotated[Path | None, typer.Option(help="What need not; else /run/atoll.")] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            metavar="NAME=SOURCE",
            help="A further image: another name for one, or a directory that holds one; may be repeated.",
        ),
    ] = None,
    default_image: Annotated[
        str | None, typer.Option(help="Image of sandboxes created without one.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="auto, gvisor or container.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with settings; else /etc/atoll/config.toml.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
) -> None:
    """Serve sandboxes of this host over HTTP, until Ctrl-C.

    Without any key it makes one, prints it once and keeps it. Needs the package atoll-server, and root.
    """
    if importlib.util.find_spec("atoll_server") is None:
        raise InvalidConfig("the server is not installed here: install the package atoll-server")
    from atoll_server.config import ConfigError, load_settings
    from atoll_server.serve import run

    keys = [*(api_key or []), *([read_key_file(api_key_file)] if api_key_file else [])]
    try:
        settings = load_settings(
            config=config,
            host=host,
            port=port,
            socket=socket,
            api_keys=keys or None,
            state_dir=state_dir,
            run_dir=run_dir,
            images=image or None,
            default_image=default_image,
            runtime=runtime,
            log_level=log_level,
            log_format=log_format,
        )
    except ConfigError as error:
        raise InvalidConfig(str(error)) from None
    raise typer.Exit(run(settings))
