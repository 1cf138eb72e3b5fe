# SPDX-License-Identifier: Apache-2.0
"""`atoll doctor`: what this host can isolate with, and what is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InvalidConfig
from ._terminal import show_json

if TYPE_CHECKING:
    from atoll_server.doctor import Finding, Report

NOT_READY = 1
_MARKS = {"fine": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}


def doctor(
    state_dir: Annotated[
        Path | None, typer.Option(help="Where the server would keep its state; else as configured.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with settings; else /etc/atoll/config.toml.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for programs.")] = False,
) -> None:
    """Explain this host: runtimes, isolation, what is missing and how to get it.

    Ends with 0 where sandboxes can run, also with warnings, and with 1 where they cannot.
    """
    if importlib.util.find_spec("atoll_server") is None:
        raise InvalidConfig("the server is not installed here: install the package atoll-server")
    report = _examine(config, state_dir)
    if as_json:
        show_json(render_json(report))
    else:
        render_report(report)
    raise typer.Exit(0 if report.ready else NOT_READY)


def render_json(report: Report) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "ready": report.ready,
        "runtime": report.automatic.value if report.automatic else None,
        "isolation": report.isolation,
        "runtimes": [kind.value for kind in report.runtimes],
        "findings": [
            {
                "subject": finding.subject,
                "mark": finding.mark.value,
                "detail": finding.detail,
                "advice": finding.advice,
            }
            for finding in report.findings
        ],
    }


def render_report(report: Report) -> None:
    """Print the report for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for finding in report.findings:
        sign, colour = _MARKS[finding.mark.value]
        table.add_row(Text(sign, style=colour), finding.subject, _explanation(finding))
    console.print(table)
    console.print()
    if report.automatic is None:
        console.print(Text("Sandboxes cannot run here. Mend what is marked ✗.", style="bold red"))
        return
    console.print(Text("Ready. ", style="bold green") + Text("A sandbox gets"))
    console.print(Text(f"  {report.isolation}"))


def _examine(config: Path | None, state_dir: Path | None) -> Report:
    from atoll_server.config import ConfigError, load_settings
    from atoll_server.doctor import examine

    try:
        settings = load_settings(config=config, state_dir=state_dir)
    except ConfigError as error:
        raise InvalidConfig(str(error)) from None
    return examine(settings.state_dir)


def _explanation(finding: Finding) -> Any:
    from rich.text import Text

    text = Text(finding.detail)
    if finding.advice:
        text.append(f"\n→ {finding.advice}", style="cyan")
    return text
