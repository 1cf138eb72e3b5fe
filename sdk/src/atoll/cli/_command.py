# SPDX-License-Identifier: Apache-2.0
"""One command in a sandbox, with this terminal's streams: what `run` and `exec` share."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from .. import _requests, _wire
from ..errors import Error, TooLarge
from ..models import MAX_COMMAND_TIMEOUT_MS, ExecResult
from ._exits import exit_status_of_result, exit_status_of_start
from ._terminal import complain, show_json

if TYPE_CHECKING:
    from atoll import Sandbox

MAX_STDIN_BYTES = 11 * 1024 * 1024
"""What fits, in base64, into the largest body that the server takes."""
HINT_AFTER_SECONDS = 3.0

CONTEXT_SETTINGS = {"allow_interspersed_args": False}
"""What follows the command's name is the command's own."""

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="COMMAND", help="Program and arguments, or one word of shell text."),
]
Shell = Annotated[
    str | None, typer.Option("--shell", "-c", metavar="TEXT", help="Shell text to run.")
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="KEY=VALUE", help="Environment variable; may be repeated."),
]
Cwd = Annotated[str | None, typer.Option("--cwd", "-w", help="Directory to run in.")]
User = Annotated[str | None, typer.Option("--user", "-u", help="Name or uid; else root.")]
TimeLimit = Annotated[
    str | None,
    typer.Option("--timeout", help="Ends the command: 500ms, 30s, 5m. Else 5m, the most."),
]
NoStdin = Annotated[bool, typer.Option("--no-stdin", "-n", help="Do not read standard input.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object for programs.")]


def read_stdin(wanted: bool) -> bytes | None:
    """What is piped in, None where nothing is. Raises `TooLarge`."""
    if not wanted or not _is_piped():
        return None
    hint = threading.Timer(
        HINT_AFTER_SECONDS,
        complain,
        ("reading standard input to its end (-n to leave it alone)",),
    )
    hint.daemon = True
    hint.start()
    try:
        data = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    finally:
        hint.cancel()
    if len(data) > MAX_STDIN_BYTES:
        raise TooLarge(
            f"standard input is longer than {MAX_STDIN_BYTES} bytes: put it into the sandbox with "
            "`atoll cp - ID:/path` and have the command read that"
        )
    return data or None


def execute(
    sandbox: Sandbox,
    command: str | list[str],
    *,
    env: dict[str, str] | None,
    cwd: str | None,
    user: str | None,
    stdin: bytes | None,
    timeout_ms: int | None,
    as_json: bool,
) -> int:
    """Runs it with its output going to ours as it comes; returns the exit status."""
    limit_ms = timeout_ms or MAX_COMMAND_TIMEOUT_MS
    options: dict[str, Any] = {
        "env": env,
        "cwd": cwd,
        "user": user,
        "stdin": stdin,
        "timeout_ms": limit_ms,
    }
    if as_json:
        result = sandbox.exec(command, **options)
        show_json({"sandboxId": sandbox.id, **_wire.to_plain(result)})
    else:
        result = _stream(sandbox, _requests.exec_values(command, **options))
        _explain(result, limit_ms, sandbox.resources.memory_mb)
    return exit_status_of_result(result)


@contextlib.contextmanager
def own_errors() -> Iterator[None]:
    """Errors of ours end with 125, so that they cannot be taken for the command's."""
    try:
        yield
    except Error as error:
        complain(error.message)
        raise typer.Exit(exit_status_of_start(error)) from None


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """SIGTERM and SIGHUP end us by an exception, so that sandboxes are terminated on the way."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stream(sandbox: Sandbox, values: dict[str, Any]) -> ExecResult:
    from .._sync._exec import Output

    sys.stdout.flush()
    sys.stderr.flush()
    stdout = Output(on_bytes=_writer(sys.stdout.buffer))
    stderr = Output(on_bytes=_writer(sys.stderr.buffer))
    return sandbox._run(values, stdout, stderr)


def _writer(stream: BinaryIO) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write


def _explain(result: ExecResult, limit_ms: int, memory_mb: int) -> None:
    """Says on standard error what the status alone does not."""
    if result.timed_out:
        complain(f"the command ran into its time limit of {limit_ms / 1000:g} s ({result.signal})")
    if result.oom_killed:
        complain(f"the command was killed: out of memory (the sandbox has {memory_mb} MiB)")


def _is_piped() -> bool:
    """Whether standard input is a pipe, a socket or a file, rather than a terminal or /dev/null."""
    if sys.stdin is None or sys.stdin.closed:
        return False
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # something that is no file stands in for it
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISREG(mode)
