# SPDX-License-Identifier: Apache-2.0
"""Everything the SDK raises by itself.

Error
├── InvalidConfig          a client or sandbox that cannot be, as configured
├── InvalidRequest         an operation that cannot be, as asked
├── Unauthorized           no key, or a wrong one
├── Forbidden              the key does not permit this
├── NotFound
│   ├── SandboxNotFound    unknown, or terminated and acted upon
│   ├── FileNotFound
│   ├── KeyNotFound
│   ├── ProcessNotFound    unknown, or ended too long ago
│   ├── WatchNotFound      unknown, stopped, or without a reader for too long
│   └── PortNotExposed     never exposed, or closed
├── InvalidPort            a number that is no port, or one that cannot be exposed
├── PortNotListening       nothing listens there, inside the sandbox
├── SandboxNotRunning      not in a state for this
├── SandboxFailed          the sandbox broke
├── FileError              the file system inside said no; `reason` says how
├── CommandNotStarted      the command could not start; `reason` says why
├── CommandFailed          it ran, failed, and `check=True` was given; carries `result`
├── ProcessEnded           too late: the process has ended
├── StdinClosed            the process takes no more input
├── TooLarge               past a limit of size
├── RangeNotSatisfiable    a range that begins after the end of its file
├── FilesFailed            some of many files; carries `errors` and all `results`
├── RateLimited            too many requests, for now
├── ResourceExhausted      no room on the server, for now
├── RuntimeUnavailable     no such runtime on the server
├── Internal               the server's fault
├── ConnectFailed          no server reached, nothing sent
├── ConnectionLost         sent, but no whole answer came
├── Timeout                no answer in time, or still running after the time to wait
├── ProtocolError          the answer is not Atoll's
└── UnsafeArchive          an archive from a sandbox tried to leave its directory
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .models import ExecResult

MAX_QUOTED_LINES = 5
MAX_QUOTED_CHARACTERS = 2000


class Error(Exception):
    """Root of everything the SDK raises by itself.

    `code` is stable and meant for programs, `message` for people. `retryable` says whether the same call may succeed
    later. `request_id` names the request in the server's log, where there was one.
    """

    code = "ERROR"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable


class InvalidConfig(Error):
    """The client or the sandbox cannot be, as configured."""

    code = "INVALID_CONFIG"


class InvalidRequest(Error):
    """The operation cannot be, as asked."""

    code = "INVALID_REQUEST"


class Unauthorized(Error):
    """The server wants a key, or another one."""

    code = "UNAUTHORIZED"


class Forbidden(Error):
    """The key does not permit this."""

    code = "FORBIDDEN"


class NotFound(Error):
    """Root of what is not there."""

    code = "NOT_FOUND"


class SandboxNotFound(NotFound):
    """The sandbox is unknown, or was terminated and is acted upon."""

    code = "SANDBOX_NOT_FOUND"


class FileNotFound(NotFound):
    """Nothing has that path in the sandbox."""

    code = "FILE_NOT_FOUND"


class KeyNotFound(NotFound):
    """The server has no API key of that id."""

    code = "KEY_NOT_FOUND"


class ProcessNotFound(NotFound):
    """The sandbox has no such process, or forgot it: those that ended are kept for an hour."""

    code = "PROCESS_NOT_FOUND"


class WatchNotFound(NotFound):
    """The sandbox has no such watch, or no longer: it was stopped, or nobody read it for too long."""

    code = "WATCH_NOT_FOUND"


class PortNotExposed(NotFound):
    """The port is not exposed, or no longer: it was closed."""

    code = "PORT_NOT_EXPOSED"


class InvalidPort(Error):
    """No such port can be, or it is not one that can be exposed: those are 1024 to 65535."""

    code = "INVALID_PORT"


class PortNotListening(Error):
    """Nothing in the sandbox listens on the port."""

    code = "PORT_NOT_LISTENING"


class SandboxNotRunning(Error):
    """The sandbox is not in a state for this."""

    code = "SANDBOX_NOT_RUNNING"


class SandboxFailed(Error):
    """The sandbox broke; make another."""

    code = "SANDBOX_FAILED"


class FileError(Error):
    """The file system inside said no.

    `reason` is one of `exists`, `not_a_directory`, `is_a_directory`, `not_a_file`, `not_empty`, `permission_denied`,
    `no_space`, `name_too_long`, `loop`, `read_only`, `busy`, `cross_device`, `io`; a later server may know more.
    """

    code = "FILE_ERROR"
    reason = "unknown"


class CommandNotStarted(Error):
    """The command could not start, as opposed to ran and failed.

    `reason` is one of `not_found`, `not_executable`, `bad_directory`, `unknown_user`, `spawn_failed`.
    """

    code = "COMMAND_NOT_STARTED"
    reason = "unknown"


class CommandFailed(Error):
    """The command ran and did not exit with 0, and `check=True` was given. `result` has everything it wrote."""

    code = "COMMAND_FAILED"

    def __init__(self, result: ExecResult) -> None:
        super().__init__(_describe_failure(result))
        self.result = result

    def __reduce__(self) -> tuple[type[CommandFailed], tuple[ExecResult]]:
        return type(self), (self.result,)


class ProcessEnded(Error):
    """The process has ended, and cannot be acted upon."""

    code = "PROCESS_ENDED"


class StdinClosed(Error):
    """The process takes no input: it has none, or its end was written, or the process closed it or ended."""

    code = "STDIN_CLOSED"


class TooLarge(Error):
    """Something is past a limit of size."""

    code = "TOO_LARGE"


class RangeNotSatisfiable(Error):
    """The file ends before the range begins. `files.read` and `download` take that for no bytes."""

    code = "RANGE_NOT_SATISFIABLE"


class FilesFailed(Error):
    """Some of many files could not be written or read; all others were.

    `errors` has what went wrong, by path as it was given; `results` is what the call returns with `check=False`.
    """

    code = "FILES_FAILED"

    def __init__(self, errors: Mapping[Any, Error], results: Any) -> None:
        path, first = next(iter(errors.items()))
        super().__init__(
            f"{len(errors)} of {len(results)} files failed; the first, {path!r:.200}: {first.message}",
            request_id=first.request_id,
        )
        self.errors = dict(errors)
        self.results = results

    def __reduce__(self) -> tuple[type[FilesFailed], tuple[dict[Any, Error], Any]]:
        return type(self), (self.errors, self.results)


class RateLimited(Error):
    """Too many requests, for now."""

    code = "RATE_LIMITED"
    retryable = True


class ResourceExhausted(Error):
    """No room on the server, for now."""

    code = "RESOURCE_EXHAUSTED"
    retryable = True


class RuntimeUnavailable(Error):
    """The server has no such runtime."""

    code = "RUNTIME_UNAVAILABLE"


class Internal(Error):
    """The server's fault."""

    code = "INTERNAL"
    retryable = True


class ConnectFailed(Error):
    """No server was reached; nothing was sent."""

    code = "CONNECT_FAILED"
    retryable = True


class ConnectionLost(Error):
    """The request was sent, at least in part, and no whole answer came. It may or may not have had its effect."""

    code = "CONNECTION_LOST"


class Timeout(Error):
    """The server did not answer in time, and the request may or may not have had its effect; or what was waited for
    has not come about yet.
    """

    code = "TIMEOUT"


class ProtocolError(Error):
    """The answer is not one of Atoll's; most often the URL is another program's."""

    code = "PROTOCOL_ERROR"


class UnsafeArchive(Error):
    """An archive from a sandbox held what must not be unpacked, such as a name outside its directory."""

    code = "UNSAFE_ARCHIVE"


def error_from_answer(
    code: str,
    message: str,
    *,
    retryable: bool,
    request_id: str | None = None,
    reason: str | None = None,
) -> Error:
    """The error for what a server answered. A code that this version does not know gives a plain `Error`."""
    error_type = _FROM_SERVER.get(code, Error)
    error = error_type(message, code=code, retryable=retryable, request_id=request_id)
    if reason is not None and isinstance(error, FileError | CommandNotStarted):
        error.reason = reason
    return error


_FROM_SERVER: dict[str, type[Error]] = {
    error_type.code: error_type
    for error_type in (
        InvalidConfig,
        InvalidRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        SandboxNotFound,
        FileNotFound,
        KeyNotFound,
        ProcessNotFound,
        WatchNotFound,
        PortNotExposed,
        InvalidPort,
        PortNotListening,
        ProcessEnded,
        StdinClosed,
        Timeout,
        SandboxNotRunning,
        SandboxFailed,
        FileError,
        CommandNotStarted,
        TooLarge,
        RangeNotSatisfiable,
        RateLimited,
        ResourceExhausted,
        RuntimeUnavailable,
        Internal,
    )
}


def _describe_failure(result: ExecResult) -> str:
    how = f"command exited with {result.exit_code}"
    if result.timed_out or result.exit_code is None:
        how = f"command ran into its time limit after {result.duration_ms} ms"
    if result.signal is not None:
        how += f" ({result.signal})"
    if result.oom_killed:
        how += ", out of memory"
    lines = (result.stderr.strip() or result.stdout.strip()).splitlines()[-MAX_QUOTED_LINES:]
    if not lines:
        return how
    return how + ": " + "\n".join(lines)[-MAX_QUOTED_CHARACTERS:]
