# SPDX-License-Identifier: Apache-2.0
"""A process is started: what is asked for, and that it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from atoll_server.agent.messages.answers import Answer
from atoll_server.agent.messages.handshake import GENERATION, PROCESSES_GENERATION
from atoll_server.agent.messages.values import Count, Fields, Pid, wire_text
from atoll_server.engine.model import TerminalSize


@dataclass(frozen=True)
class StartRequest:
    """What to run: `program` is text for a shell or an argument vector. Durations are seconds.

    What stands below `grace` is known to agents of generation 2, and not sent to older ones.
    """

    program: str | Sequence[str]
    cwd: str
    make_cwd: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stdin: bool = False
    timeout: float | None = None
    grace: float = 5.0
    tag: str | None = None
    note: bytes | None = None
    keep_stdin: bool = False
    terminal: TerminalSize | None = None
    idle_timeout: float | None = None
    journal_bytes: int | None = None
    detach: bool = False

    def fields(self, generation: int = GENERATION) -> Fields:
        is_text = isinstance(self.program, str)
        newer = self._newer_fields() if generation >= PROCESSES_GENERATION else {}
        return {
            "op": "start",
            "generation": generation,
            "shell" if is_text else "argv": _program(self.program),
            "cwd": wire_text(self.cwd),
            "make_cwd": self.make_cwd,
            "env": {name: wire_text(value) for name, value in self.env.items()},
            "user": None if self.user is None else wire_text(self.user),
            "stdin": self.stdin,
            "timeout_ms": None if self.timeout is None else _milliseconds(self.timeout),
            "grace_ms": round(self.grace * 1000),
            **newer,
        }

    def _newer_fields(self) -> Fields:
        """Only what is asked for: most commands want nothing but a note."""
        terminal = self.terminal
        fields: Fields = {
            "tag": None if self.tag is None else wire_text(self.tag),
            "note": self.note,
            "keep_stdin": self.keep_stdin or None,
            "pty": None if terminal is None else {"rows": terminal.rows, "cols": terminal.cols},
            "idle_ms": None if self.idle_timeout is None else _milliseconds(self.idle_timeout),
            "journal_bytes": self.journal_bytes,
            "detach": self.detach or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


class Started(Struct, tag_field="event", tag="started", frozen=True):
    """`process` names it to the agent, `pid` inside the sandbox."""

    process: Count
    pid: Pid


STARTED: Final = Answer(Started)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _program(program: str | Sequence[str]) -> str | bytes | list[str | bytes]:
    if isinstance(program, str):
        return wire_text(program)
    return [wire_text(word) for word in program]
