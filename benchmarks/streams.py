# SPDX-License-Identifier: Apache-2.0
"""A gigabyte of output and of files, beside `cat` and `cp`, and what it does to the server's memory."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from atoll import Sandbox
from benchmarks.bench import Bench
from benchmarks.measure import Call, Row, Series, interleave
from benchmarks.memory import PeakMemory
from benchmarks.promises import FILE_DOWNLOAD, FILE_UPLOAD, MEMORY_FLAT, STREAM_STDOUT

FAMILY = "stream"
MEMORY_ALLOWED_MB = 32
_LINE = "0123456789abcdef" * 64 + "\n"
_PIECE = 1 << 20


def run(bench: Bench) -> Iterator[Row]:
    """Rows of every runtime."""
    size = bench.rounds(1 << 30, 1 << 27)
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as directory:
        source = Path(directory, "source")
        _fill(source, size)
        for runtime in bench.runtimes:
            yield from _runtime_rows(bench, runtime, source)


def _runtime_rows(bench: Bench, runtime: str, source: Path) -> Iterator[Row]:
    copy, back = source.with_name("copy"), source.with_name("back")
    with bench.unix.sandboxes.create(image="host", runtime=runtime) as sandbox:
        sandbox.files.upload(source, "/workspace/big")
        steps: dict[str, tuple[Call, Call, str]] = {
            "stdout": (lambda: _stream(sandbox), lambda: _cat(source), "cat through a pipe"),
            "upload": (
                lambda: sandbox.files.upload(source, "/workspace/new"),
                lambda: _cp(source, copy),
                "cp",
            ),
            "download": (
                lambda: sandbox.files.download("/workspace/big", back),
                lambda: _cp(source, copy),
                "cp",
            ),
        }
        promises = {"stdout": STREAM_STDOUT, "upload": FILE_UPLOAD, "download": FILE_DOWNLOAD}
        for name, (subject, baseline, beside) in steps.items():
            bench.say(f"{name} of {source.stat().st_size >> 20} MiB, {runtime}")
            with PeakMemory(bench.server.pid) as memory:
                series = interleave({"subject": subject, "baseline": baseline}, rounds=3, warmup=1)
            speeds = [_speed(source, series[key]) for key in ("subject", "baseline")]
            yield Row(
                FAMILY, f"{runtime}, {name}", "MB/s", speeds[0], beside, speeds[1], promises[name]
            )
            yield _memory_row(f"{runtime}, {name}, server above idle", memory)


def _memory_row(name: str, memory: PeakMemory) -> Row:
    return Row(FAMILY, name, "MiB", memory.growth_mb, "allowed", MEMORY_ALLOWED_MB, MEMORY_FLAT)


def _speed(source: Path, series: Series) -> float:
    return source.stat().st_size / 1e6 / series.percentile(50)


def _stream(sandbox: Sandbox) -> None:
    """Every line reaches a callback here."""
    lines = 0

    def count(line: str) -> None:
        nonlocal lines
        lines += 1

    sandbox.exec(["cat", "/workspace/big"], on_stdout=count, timeout_ms=300_000, check=True)
    assert lines, "no line came"


def _cat(source: Path) -> None:
    with subprocess.Popen(["cat", str(source)], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        while program.stdout.read(_PIECE):
            pass


def _cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--reflink=never", str(source), str(target)], check=True)


def _fill(path: Path, size: int) -> None:
    block = (_LINE * (_PIECE // len(_LINE))).encode()
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(block)
