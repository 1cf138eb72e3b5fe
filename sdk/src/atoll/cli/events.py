# SPDX-License-Identifier: Apache-2.0
"""`atoll events`: what happened to sandboxes and in them, and what goes on to happen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from .. import _wire
from ..models import Event
from ._command import orderly_end
from ._processes import render_command
from ._session import Session
from ._terminal import printable, render_duration

TYPE_WIDTH = len("sandbox.terminated")
_GREEN, _YELLOW, _RED, _DIM, _PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[0m"
_COLOURS = {
    "sandbox.started": _GREEN,
    "exec.timed_out": _YELLOW,
    "events.lost": _YELLOW,
    "network.denied": _YELLOW,
    "sandbox.error": _RED,
    "sandbox.oom": _RED,
    "process.oom": _RED,
    "exec.failed": _RED,
}


def events(
    context: typer.Context,
    sandbox_id: Annotated[
        str | None, typer.Argument(metavar="SANDBOX", help="One sandbox; else all of them.")
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Such as exec.completed; may be repeated."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C, or the sandbox's end.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for programs.")
    ] = False,
) -> None:
    """Show what happened lately, a line an event, the oldest first."""
    session: Session = context.obj
    render = _render_json if as_json else _choose_render()
    with orderly_end(), session.connect() as client:
        source = client if sandbox_id is None else client.sandboxes.get(sandbox_id)
        for event in source.events(types, follow=follow):
            sys.stdout.write(render(event) + "\n")
            # What is read on a screen or from a pipe is never late.
            sys.stdout.flush()


def _render_json(event: Event) -> str:
    return json.dumps({**_wire.to_plain(event), "data": _wire.camel_members(event.data)})


def _choose_render() -> Callable[[Event], str]:
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return _render_coloured if is_coloured else _render


def _render(event: Event) -> str:
    line = f"{_clock(event)}  {event.sandbox_id or '-':13}  {event.type:{TYPE_WIDTH}}  {_describe(event)}"
    return printable(line.rstrip())


def _render_coloured(event: Event) -> str:
    colour = _COLOURS.get(event.type, "")
    if event.type == "exec.completed":
        colour = _GREEN if event.data.get("exit_code") == 0 else _RED
    kind = f"{event.type:{TYPE_WIDTH}}"
    return (
        f"{_DIM}{printable(_clock(event))}  {printable(event.sandbox_id or '-'):13}{_PLAIN}  "
        f"{colour}{printable(kind)}{_PLAIN}  {printable(_describe(event))}"
    ).rstrip()


def _clock(event: Event) -> str:
    """The time here, as a person has it on the wall."""
    try:
        local = datetime.fromisoformat(event.timestamp).astimezone()
    except ValueError:
        return event.timestamp
    return local.strftime("%H:%M:%S.") + f"{local.microsecond // 1000:03}"


def _describe(event: Event) -> str:
    describe = _DESCRIPTIONS.get(event.type)
    return "" if describe is None else describe(event.data)


def _describe_created(data: Mapping[str, Any]) -> str:
    resources = data.get("resources") or {}
    return f"{data.get('image')} in {data.get('runtime')}, {resources.get('memory_mb')} MiB"


def _describe_terminated(data: Mapping[str, Any]) -> str:
    because = f": {data['detail']}" if data.get("detail") else ""
    return f"{data.get('reason')} after {_duration(data, 'total_runtime_ms')}{because}"


def _describe_end(data: Mapping[str, Any]) -> str:
    ended = data.get("signal") or data.get("exit_code")
    return f"{ended} in {_duration(data, 'duration_ms')}  {_command(data)}"


def _describe_timeout(data: Mapping[str, Any]) -> str:
    return f"{data.get('signal')} after {_duration(data, 'duration_ms')}  {_command(data)}"


def _describe_memory(data: Mapping[str, Any]) -> str:
    return f"out of memory, {data.get('memory_limit_mb')} MiB  {_command(data)}"


def _describe_failure(data: Mapping[str, Any]) -> str:
    error = data.get("error") or {}
    return f"{error.get('message')}  {_command(data)}"


def _describe_denial(data: Mapping[str, Any]) -> str:
    return f"{_destination(data)}, {data.get('count')} x {data.get('reason')}: {data.get('text')}"


def _describe_egress(data: Mapping[str, Any]) -> str:
    sent, received = data.get("bytes_sent"), data.get("bytes_received")
    return f"{_destination(data)}, {data.get('connections')} ended: {sent} bytes out, {received} in"


def _destination(data: Mapping[str, Any]) -> str:
    host = data.get("host")
    return "several destinations" if host is None else f"{host} port {data.get('port')}"


def _describe_loss(data: Mapping[str, Any]) -> str:
    if data.get("reason") == "restart":
        return "the server was started anew: what happened before is not known"
    count = data.get("count")
    return f"{'some' if count is None else count} events were not told here"


_DESCRIPTIONS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "sandbox.created": _describe_created,
    "sandbox.started": lambda data: f"in {_duration(data, 'startup_duration_ms')}",
    "sandbox.oom": _describe_memory,
    "sandbox.error": _describe_failure,
    "sandbox.terminated": _describe_terminated,
    "exec.started": lambda data: _command(data),
    "exec.completed": _describe_end,
    "exec.timed_out": _describe_timeout,
    "exec.failed": _describe_failure,
    "process.oom": _describe_memory,
    "network.denied": _describe_denial,
    "network.egress": _describe_egress,
    "events.lost": _describe_loss,
}


def _command(data: Mapping[str, Any]) -> str:
    command = data.get("command")
    if command is None:
        return ""
    return render_command(command) + (" …" if data.get("command_truncated") else "")


def _duration(data: Mapping[str, Any], name: str) -> str:
    milliseconds = data.get(name)
    if not isinstance(milliseconds, int):
        return "?"
    return f"{milliseconds} ms" if milliseconds < 1000 else render_duration(milliseconds)
