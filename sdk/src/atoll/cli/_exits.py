# SPDX-License-Identifier: Apache-2.0
"""Exit statuses, by table: those of sysexits.h for errors, those of shells and `timeout` for commands."""

from __future__ import annotations

from ..errors import CommandNotStarted, Error
from ..models import ExecResult

TIMED_OUT = 124
OWN_ERROR = 125
INTERRUPTED = 130
PIPE_BROKEN = 141

_BY_CODE = {
    "ERROR": 1,
    "INVALID_REQUEST": 65,
    "INVALID_PORT": 65,
    "TOO_LARGE": 65,
    "RANGE_NOT_SATISFIABLE": 65,
    "UNSAFE_ARCHIVE": 65,
    "NOT_FOUND": 66,
    "SANDBOX_NOT_FOUND": 66,
    "FILE_NOT_FOUND": 66,
    "KEY_NOT_FOUND": 66,
    "PROCESS_NOT_FOUND": 66,
    "WATCH_NOT_FOUND": 66,
    "PORT_NOT_EXPOSED": 66,
    "PORT_NOT_LISTENING": 69,
    "CONNECT_FAILED": 69,
    "RUNTIME_UNAVAILABLE": 69,
    "INTERNAL": 70,
    "SANDBOX_FAILED": 70,
    "SANDBOX_NOT_RUNNING": 71,
    "PROCESS_ENDED": 71,
    "STDIN_CLOSED": 71,
    "FILE_ERROR": 73,
    "FILES_FAILED": 73,
    "CONNECTION_LOST": 74,
    "TIMEOUT": 74,
    "RATE_LIMITED": 75,
    "RESOURCE_EXHAUSTED": 75,
    "PROTOCOL_ERROR": 76,
    "UNAUTHORIZED": 77,
    "FORBIDDEN": 77,
    "INVALID_CONFIG": 78,
    "COMMAND_FAILED": 1,
    "COMMAND_NOT_STARTED": OWN_ERROR,
}
_BY_REASON = {"not_executable": 126, "not_found": 127}


def exit_status(error: Error) -> int:
    """The status of a command of ours that failed with `error`."""
    return _BY_CODE.get(error.code, 1)


def exit_status_of_start(error: Error) -> int:
    """The status where a command in a sandbox was to be run and was not: 126 and 127 as shells have them, else 125."""
    if isinstance(error, CommandNotStarted):
        return _BY_REASON.get(error.reason, OWN_ERROR)
    return OWN_ERROR


def exit_status_of_result(result: ExecResult) -> int:
    """The status of a command that ran: its own, 128 + n for signal n, 124 where its timeout ended it."""
    if result.timed_out or result.exit_code is None:
        return TIMED_OUT
    return result.exit_code
