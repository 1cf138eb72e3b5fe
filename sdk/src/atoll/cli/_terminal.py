# SPDX-License-Identifier: Apache-2.0
"""What people see: messages and progress on standard error, results on standard output."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

SPINNER_AFTER_SECONDS = 0.4
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def complain(message: str) -> None:
    """A message on standard error."""
    sys.stderr.write(f"atoll: {message}\n")


def explain(message: str) -> None:
    """What is worth knowing about a result, on standard error."""
    sys.stderr.write(printable(message) + "\n")


def show_json(value: Any) -> None:
    """A result for programs. Escapes keep a terminal safe from what a sandbox wrote."""
    sys.stdout.write(json.dumps(value, indent=2 if sys.stdout.isatty() else None) + "\n")


def show(text: str) -> None:
    """A result for people, without what could steer their terminal."""
    sys.stdout.write(printable(text) + "\n")


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for people."""
    lines = [columns, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        show("  ".join(padded).rstrip())


def render_age(since: str, now: datetime) -> str:
    """How long an instant is past, in its largest unit."""
    try:
        seconds = int((now - datetime.fromisoformat(since)).total_seconds())
    except (ValueError, TypeError):
        return "?"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"


def render_size(size_bytes: int) -> str:
    """Bytes in their largest unit, as `1.5 GiB`."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


def render_duration(milliseconds: int) -> str:
    """A length of time in its largest two units, as `1h05m`."""
    seconds = milliseconds // 1000
    for (unit, size), (smaller, part) in zip(_UNITS, _UNITS[1:], strict=False):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // part:02}{smaller}"
    return f"{milliseconds / 1000:.1f}s"


def printable(text: str) -> str:
    """`text` with control characters, which may come from a sandbox, made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextlib.contextmanager
def spinner(text: str) -> Iterator[None]:
    """Says what is being waited for, on a terminal, once it takes long."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    status = Console(stderr=True).status(text)
    lock = threading.Lock()
    ended = False

    def start() -> None:
        with lock:
            if not ended:
                status.start()

    timer = threading.Timer(SPINNER_AFTER_SECONDS, start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            ended = True
            status.stop()
