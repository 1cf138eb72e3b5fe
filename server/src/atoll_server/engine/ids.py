# SPDX-License-Identifier: Apache-2.0
"""Where ids come from."""

from __future__ import annotations

import hashlib
import re
import secrets
import string

from atoll_server.engine.model import ProcessId, SandboxId, WatchId

_ALPHABET = string.ascii_lowercase + string.digits
_LENGTH = 10
_PORT_LABEL_LENGTH = 20
_PROCESS = re.compile(r"proc_(0|[1-9][0-9]{0,18})")
_EVENT = re.compile(r"evt_([a-z0-9]{10})_(0|[1-9][0-9]{0,17})")
_WATCH = re.compile(r"watch_(0|[1-9][0-9]{0,18})")


def new_sandbox_id() -> SandboxId:
    """`sb_` and ten random letters and digits (52 bits): not to be guessed, short enough to type."""
    return SandboxId("sb_" + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)))


def new_port_label() -> str:
    """Twenty random letters and digits (103 bits): whoever knows the label of a public port may use it."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_PORT_LABEL_LENGTH))


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


def new_epoch() -> str:
    """Names one life of a server, in the ids of its events."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def event_id(epoch: str, number: int) -> str:
    """`evt_`, the life of the server, and the event's number in it."""
    return f"evt_{epoch}_{number}"


def event_place(text: str) -> tuple[str, int] | None:
    """The life of a server and the number in an event's id; None where it is none."""
    found = _EVENT.fullmatch(text)
    return (found[1], int(found[2])) if found else None


def trace_id(sandbox_id: SandboxId) -> str:
    """32 hexadecimal digits, the same for all that is ever told of a sandbox."""
    return hashlib.sha256(sandbox_id.encode()).hexdigest()[:32]


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.fullmatch(text)
    return int(found[1]) if found and int(found[1]) < 2**63 else None
