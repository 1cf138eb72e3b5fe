# SPDX-License-Identifier: Apache-2.0
"""The program `atoll`: global options, the commands, and what an error becomes."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from .._version import __version__
from ..errors import Error
from ._exits import INTERRUPTED, PIPE_BROKEN, exit_status
from ._session import Session
from ._terminal import complain

COMMANDS = (
    *("run", "create", "ls", "exec", "shell", "cp", "watch", "rm"),
    *("ps", "logs", "attach", "kill", "stats", "events"),
    *("port", "open", "forward"),
    *("images", "keys", "pool", "serve", "doctor"),
)


class LazyGroup(typer.core.TyperGroup):
    """Imports a command's module when the command is asked for, and turns errors into messages and statuses.

    What typer builds on is click or a copy of it, by version: hence `Any`.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__package__}.{cmd_name}")
        if hasattr(module, "group"):
            return typer.main.get_command(module.group)
        only = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        settings = getattr(module, "CONTEXT_SETTINGS", None)
        only.command(name=cmd_name, context_settings=settings)(getattr(module, cmd_name))
        return typer.main.get_command(only)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Error as error:
            complain(error.message)
            raise typer.Exit(exit_status(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read us went away: nothing is left to say, and the interpreter must not try.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(PIPE_BROKEN) from None
        except OSError as error:
            complain(str(error))
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atoll {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(
            help="Server: http://…, https://… or unix:///path. Else ATOLL_URL, else a private one."
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the API key. Else ATOLL_API_KEY.")
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Run code you do not trust, on machines you own."""
    context.obj = Session(url=url, api_key_file=api_key_file)


def main() -> None:
    """The entry point of the distribution."""
    app()
