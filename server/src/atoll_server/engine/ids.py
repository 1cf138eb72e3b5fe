# SPDX-License-Identifier: Apache-2.0
"""Where ids come from."""

from __future__ import annotations

import re
import secrets
import string

from atoll_server.engine.model import ProcessId, SandboxId, WatchId

_ALPHABET = string.ascii_lowercase + string.digits
_LENGTH = 10
_PROCESS = re.compile(r"proc_(0|[1-9][0-9]{0,18})")
_WATCH = re.compile(r"watch_(0|[1-9][0-9]{0,18})")


def new_sandbox_id() -> SandboxId:
    """`sb_` and ten random letters and digits (52 bits): not to be guessed, short enough to type."""
    return SandboxId("sb_" + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)))


def process_id(number: int) -> ProcessId:
    """`proc_` and the number that the sandbox's agent gave it."""
    return ProcessId(f"proc_{number}")


def process_number(text: str) -> int | None:
    """The number in a process's id; None where it is none."""
    return _number(_PROCESS, text)


def watch_id(number: int) -> WatchId:
    """`watch_` and the number that the sandbox's agent gave it."""
    return WatchId(f"watch_{number}")


def watch_number(text: str) -> int | None:
    """The number in a watch's id; None where it is none."""
    return _number(_WATCH, text)


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.fullmatch(text)
    return int(found[1]) if found and int(found[1]) < 2**63 else None
