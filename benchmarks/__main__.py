# SPDX-License-Identifier: Apache-2.0
"""`make bench`: every family of rows, a table on the terminal, the numbers as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import (
    creates,
    egress,
    execs,
    memory,
    neighbours,
    pool,
    previews,
    processes,
    readers,
    streams,
)
from benchmarks.bench import Bench, opened
from benchmarks.machine import describe_machine
from benchmarks.measure import Row, Verdict

WIDTH = 120
"""Where the output is no terminal."""
RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"
FAMILIES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    execs.FAMILY: execs.run,
    creates.FAMILY: creates.run,
    pool.FAMILY: pool.run,
    streams.FAMILY: streams.run,
    readers.FAMILY: readers.run,
    processes.FAMILY: processes.run,
    neighbours.FAMILY: neighbours.run,
    previews.FAMILY: previews.run,
    egress.FAMILY: egress.run,
    memory.FAMILY: memory.run,
}
_MARKS = {Verdict.KEPT: "[green]kept[/]", Verdict.BROKEN: "[red]broken[/]", Verdict.NONE: ""}


def main() -> int:
    options = _parse_arguments()
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    machine = describe_machine()
    rows: list[Row] = []
    with (
        console.status("starting a server") as status,
        opened(quick=options.quick, say=status.update) as bench,
    ):
        for name in options.only:
            found = list(FAMILIES[name](bench))
            console.print(_table(name, found))
            rows += found
    console.print(f"[dim]{' · '.join(machine.values())}[/]")
    if options.quick:
        console.print(
            "[yellow]--quick: few repetitions, small files; for numbers to quote, run without[/]"
        )
    _write(options.output, rows, machine, quick=options.quick)
    if options.markdown:
        print("\n".join(render_markdown(rows, machine)))
    console.print(f"[dim]{options.output}[/]")
    return 1 if options.strict and any(row.verdict is Verdict.BROKEN for row in rows) else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few repetitions, small files: about a minute"
    )
    parser.add_argument(
        "--only", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="families to run"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--markdown", action="store_true", help="print the README's table too")
    parser.add_argument("--strict", action="store_true", help="fail when a promise is broken")
    return parser.parse_args()


def render_markdown(rows: list[Row], machine: dict[str, str]) -> Iterator[str]:
    """The table of the README: every measured row, and the machine."""
    yield "| what | measured | beside | measured | ratio | promised |"
    yield "| --- | ---: | --- | ---: | ---: | --- |"
    for row in rows:
        if row.value is not None:
            broken = " (not kept)" if row.verdict is Verdict.BROKEN else ""
            yield (
                f"| {row.name} | {_number(row.value, row.unit)} | {row.baseline_name} "
                f"| {'' if row.baseline is None else _number(row.baseline, row.unit)} "
                f"| {'' if row.ratio is None else f'{row.ratio:.2f}'} "
                f"| {row.promise or ''}{broken} |"
            )
    yield ""
    yield f"Measured on {', '.join(machine.values())}."


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("what", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("beside", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("ratio", justify="right")
    table.add_column("promise", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> Iterator[str]:
    yield row.name
    yield row.note if row.value is None else _number(row.value, row.unit)
    yield row.baseline_name
    yield "" if row.baseline is None else _number(row.baseline, row.unit)
    yield "" if row.ratio is None else f"{row.ratio:.2f}"
    yield f"{row.promise} {_MARKS[row.verdict]}" if row.promise else ""


def _number(value: float, unit: str) -> str:
    if not unit:  # a number of things
        return f"{value:,.0f}"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}"


def _write(path: Path, rows: list[Row], machine: dict[str, str], *, quick: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine,
        "rows": [_as_json(row) for row in rows],
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _as_json(row: Row) -> dict[str, Any]:
    return {
        "family": row.family,
        "name": row.name,
        "unit": row.unit,
        "value": row.value,
        "baseline_name": row.baseline_name or None,
        "baseline": row.baseline,
        "ratio": row.ratio,
        "promise": row.promise.name if row.promise else None,
        "verdict": row.verdict.value,
        "note": row.note or None,
    }


if __name__ == "__main__":
    sys.exit(main())
