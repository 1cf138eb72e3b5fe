# SPDX-License-Identifier: Apache-2.0
"""What `make demo` shows: real code in real sandboxes, once per runtime of this host, with timings.

.venv/bin/python examples/demo.py [gvisor | container …]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from atoll import Atoll, Error, ExecResult, Sandbox

PROGRAM = """\
import os

def primes(limit):
    sieve = bytearray([1]) * limit
    for n in range(2, int(limit**0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return sum(sieve) - 2

print(f"{primes(2_000_000):,} primes below two million")
me = os.uname()
print(f"uid {os.getuid()} on {me.nodename}, kernel {me.release}")
"""
PIPELINE = "ls /usr/bin | cut -c1 | sort | uniq -c | sort -rn | head -3"
POEM = "an atoll is a ring of coral\naround a lagoon: 环礁\n"
COUNTDOWN = "for n in 3 2 1; do echo $n; sleep 0.3; done; echo lift-off"
PRYING = "cat /etc/shadow; mount -t tmpfs none /mnt; echo h > /proc/sysrq-trigger"

Timings = dict[str, float]

console = Console(highlight=False)


def main(runtimes: list[str]) -> int:
    console.print(
        Panel(
            "[bold]Atoll[/]  code you do not trust, on a machine you own",
            box=box.ROUNDED,
            expand=False,
        )
    )
    try:
        with clocked() as started, Atoll() as client:
            client.health()
            console.print(
                f"[dim]a private server, started and answering after {started():.2f} s[/]"
            )
            timings = {runtime: found for runtime in runtimes if (found := show(client, runtime))}
    except KeyboardInterrupt:
        console.print("\n[yellow]stopped; the sandboxes and the server are gone[/]")
        return 130
    if not timings:
        console.print("[red]no runtime works here:[/] .venv/bin/atoll doctor says why")
        return 1
    print_timings(timings)
    return 0


def show(client: Atoll, runtime: str) -> Timings | None:
    """Run every part in one sandbox. None where this host has no such runtime."""
    timings: Timings = {}
    with clocked() as since:
        try:
            sandbox = client.sandboxes.create(image="host", runtime=runtime)
        except Error as error:
            console.print(f"\n[yellow]{runtime}[/] [dim]skipped: {error}[/]")
            return None
        timings["create"] = since()
    with sandbox:
        console.print(Rule(f"[bold cyan]{runtime}", style="cyan", align="left"))
        ready = milliseconds(timings["create"])
        console.print(f"sandbox [bold]{sandbox.id}[/], ready in {ready}")
        console.print(f"[dim]{sandbox.isolation}[/]")
        for name, part in PARTS.items():
            with clocked() as since:
                part(sandbox)
                timings[name] = since()
        with clocked() as since:
            sandbox.terminate()
            timings["end"] = since()
    return timings


def run_program(sandbox: Sandbox) -> None:
    sandbox.files.write("/workspace/primes.py", PROGRAM)
    result = sandbox.exec(["python3", "primes.py"], check=True)
    title("a Python program", ending(result))
    code(PROGRAM, "python")
    output(result.stdout)


def run_pipeline(sandbox: Sandbox) -> None:
    result = sandbox.exec(PIPELINE, check=True)
    title("a shell pipeline", ending(result))
    code(PIPELINE, "bash")
    output(result.stdout)


def write_and_read(sandbox: Sandbox) -> None:
    sandbox.files.write("notes/poem.txt", POEM)
    back = sandbox.files.read_text("notes/poem.txt")
    entry = sandbox.files.stat("notes/poem.txt")
    title("a file, written and read back", f"{entry.path}, {entry.size_bytes} bytes, {entry.mode}")
    output(back)
    assert back == POEM, "the file came back changed"


def stream(sandbox: Sandbox) -> None:
    title("streamed output", "each line as it is written")
    with clocked() as since:
        sandbox.exec(
            COUNTDOWN, on_stdout=lambda line: output(f"{line:<10} +{since():.2f} s"), check=True
        )


def pry(sandbox: Sandbox) -> None:
    result = sandbox.exec(PRYING, user="root")
    title("prying, as root inside", ending(result))
    code(PRYING, "bash")
    output(result.stderr)


PARTS: dict[str, Callable[[Sandbox], None]] = {
    "program": run_program,
    "pipeline": run_pipeline,
    "file": write_and_read,
    "stream": stream,
    "prying": pry,
}


def print_timings(timings: dict[str, Timings]) -> None:
    table = Table(
        box=box.SIMPLE_HEAD,
        title="time, as seen from here",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("", style="cyan", no_wrap=True)
    for name in next(iter(timings.values())):
        table.add_column(name, justify="right", no_wrap=True)
    for runtime, found in timings.items():
        table.add_row(runtime, *(milliseconds(seconds) for seconds in found.values()))
    console.print(table)


def title(what: str, detail: str) -> None:
    console.print(f"\n[bold]{what}[/] [dim]{detail}[/]")


def code(text: str, language: str) -> None:
    console.print(
        Padding(
            Syntax(text.rstrip(), language, theme="ansi_dark", background_color="default"), (0, 2)
        )
    )


def ending(result: ExecResult) -> str:
    return f"exit {result.exit_code} after {result.duration_ms} ms"


def output(text: str) -> None:
    for line in text.rstrip("\n").splitlines():
        console.print(Text("  │ ", style="green") + Text(line))


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


@contextmanager
def clocked() -> Iterator[Callable[[], float]]:
    """Yields a function that tells the seconds since."""
    started = time.perf_counter()
    yield lambda: time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["gvisor", "container"]))
