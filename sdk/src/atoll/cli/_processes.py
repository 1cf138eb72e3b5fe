# SPDX-License-Identifier: Apache-2.0
"""How processes are named and shown on a command line, and what status they give."""

from __future__ import annotations

import shlex
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from ..models import ProcessInfo, ProcessStatus
from ._exits import TIMED_OUT

if TYPE_CHECKING:
    from atoll import Process, Sandbox

SandboxId = Annotated[str, typer.Argument(metavar="SANDBOX", help="The sandbox.")]
ProcessName = Annotated[
    str, typer.Argument(metavar="PROCESS", help="The process: its id, its pid or its tag.")
]
ID_PREFIX = "proc_"


def find_process(sandbox: Sandbox, name: str) -> Process:
    """The process of that id, pid or tag."""
    if name.startswith(ID_PREFIX):
        return sandbox.processes.get(name)
    if name.isascii() and name.isdecimal():
        return sandbox.processes.get(pid=int(name))
    return sandbox.processes.get(tag=name)


def render_command(command: str | list[str]) -> str:
    """A command as one would type it."""
    return command if isinstance(command, str) else shlex.join(command)


def exit_status_of_process(info: ProcessInfo) -> int:
    """The status of a command that ran: its own, 128 + n for signal n, 124 where a timeout ended it."""
    if info.exit_code is not None:
        return info.exit_code
    if info.status is ProcessStatus.TIMED_OUT or info.signal is None:
        return TIMED_OUT
    return 128 + getattr(signal, info.signal, 0)
