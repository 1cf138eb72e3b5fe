# SPDX-License-Identifier: Apache-2.0
"""Between the wire's records of commands and the engine's."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from atoll.models import ExecRequest, ExecResult, StartProcess
from atoll_server.api.native.values import parse_content
from atoll_server.api.records import render_builtins
from atoll_server.api.settings import ApiSettings
from atoll_server.engine.errors import InvalidRequest
from atoll_server.engine.model import Command, Completed, Exit


def parse_command(body: ExecRequest, settings: ApiSettings) -> Command:
    if body.timeout_ms > settings.max_command_timeout_ms:
        raise InvalidRequest(
            f"`timeoutMs` must be at most {settings.max_command_timeout_ms} on this server"
        )
    return parse_what_to_run(body, body.timeout_ms)


def parse_what_to_run(body: ExecRequest | StartProcess, timeout_ms: int | None) -> Command:
    """What a command and a process have in common."""
    if body.user is not None and body.run_as is not None and body.user != body.run_as:
        raise InvalidRequest("`user` and `runAs` mean the same; give one")
    return Command(
        line=body.command if isinstance(body.command, str) else tuple(body.command),
        cwd=body.cwd,
        env=body.env,
        user=body.user if body.user is not None else body.run_as,
        # Nothing to read and no input are the same to a command: the end of the file at once.
        stdin=parse_content("stdin", body.stdin, body.stdin_encoding) if body.stdin else None,
        timeout=None if timeout_ms is None else timeout_ms / 1000,
    )


def render_result(completed: Completed) -> ExecResult:
    return _result(
        completed.exit,
        stdout=completed.stdout.decode("utf-8", "replace"),
        stderr=completed.stderr.decode("utf-8", "replace"),
        truncated=completed.truncated,
    )


def render_exit(ended: Exit) -> Mapping[str, Any]:
    """The end of a streamed command: a result whose output has been sent already."""
    return render_builtins(_result(ended, stdout="", stderr="", truncated=False))


def _result(ended: Exit, *, stdout: str, stderr: str, truncated: bool) -> ExecResult:
    code, signal_name = render_end(ended.code, ended.signal, timed_out=ended.timed_out)
    return ExecResult(
        stdout=stdout,
        stderr=stderr,
        exit_code=code,
        signal=signal_name,
        duration_ms=round(ended.duration * 1000),
        timed_out=ended.timed_out,
        oom_killed=ended.oom_killed,
        truncated=truncated,
    )


def render_end(
    code: int | None, number: int | None, *, timed_out: bool
) -> tuple[int | None, str | None]:
    """The exit code and the signal of what has ended."""
    if timed_out and number is None:
        number = int(signal.SIGTERM)  # it took the hint and left by itself
    if number is not None:
        code = 128 + number
    return None if timed_out else code, None if number is None else _signal_name(number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
