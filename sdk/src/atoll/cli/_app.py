# SPDX-License-Identifier: Apache-2.0
"""The program `atoll`: global options, the commands, and what an error becomes."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
import typer.main

from .._version import __version__
from ..errors import Error
from ._exits import INTERRUPTED, PIPE_BROKEN, exit_status
from ._help import Command, Group, unwrap
from ._session import Session
from ._terminal import complain

COMMANDS = (
    *("run", "create", "ls", "exec", "shell", "cp", "watch", "rm"),
    *("ps", "logs", "attach", "kill", "stats", "events"),
    *("port", "open", "forward"),
    *("images", "keys", "pool", "serve", "doctor"),
)


class LazyGroup(Group):
    """Imports a command's module when the command is asked for, and turns errors into messages and statuses."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__package__}.{cmd_name}")
        group = getattr(module, "group", None) or _group_of_one(module, cmd_name)
        command = typer.main.get_command(group)
        command.name = cmd_name
        command.help = unwrap(command.help or "")
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        is_unknown = args and args[0] not in COMMANDS and not args[0].startswith("-")
        if is_unknown and not ctx.resilient_parsing:
            meant = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f": did you mean `{meant[0]}`?" if meant else "; `atoll --help` lists them"
            ctx.fail(f"there is no command `{args[0]}`{hint}")
        return super().resolve_command(ctx, args)

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
            complain(_explain(error))
            raise typer.Exit(1) from None


def _group_of_one(module: ModuleType, name: str) -> typer.Typer:
    only = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    settings = getattr(module, "CONTEXT_SETTINGS", None)
    only.command(name=name, cls=Command, context_settings=settings)(getattr(module, name))
    return only


def _explain(error: OSError) -> str:
    """As our own errors say it, where the system says what it was and with what."""
    if error.strerror is None:
        return str(error)
    what = error.strerror[:1].lower() + error.strerror[1:]
    return f"{what}: {error.filename}" if error.filename is not None else what


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
