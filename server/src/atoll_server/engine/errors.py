# SPDX-License-Identifier: Apache-2.0
"""Everything the engine can say no with.

EngineError
├── InvalidConfig          a sandbox that cannot be, as asked
├── InvalidRequest         an operation that cannot be, as asked
├── NotFound
│   ├── SandboxNotFound    unknown, or terminated and acted upon
│   ├── FileNotFound
│   ├── KeyNotFound
│   ├── ProcessNotFound    unknown, or ended too long ago
│   ├── WatchNotFound      unknown, stopped, or without a reader for too long
│   └── PortNotExposed     never exposed, or closed
├── InvalidPort            a number that is no port, or one that cannot be exposed
├── PortNotListening       nothing listens there, inside
├── Forbidden              the key does not permit this
├── SandboxNotRunning      not in a state for this
├── SandboxFailed          the sandbox broke: its agent or runtime is gone
├── ProcessEnded           too late for this: the process has ended
├── StdinClosed            the process takes no input, or no more
├── StillRunning           waited for as long as was asked, and it has not ended
├── CommandNotStarted      the command could not start, as opposed to ran and failed
├── FileError              the file system inside said no
├── TooLarge               past a limit of size
├── ResourceExhausted      no room on the host, for now
├── RuntimeUnavailable     no such runtime on this host
└── Internal               ours, not yours
"""

from __future__ import annotations

SHOWN_CHARACTERS = 200


def show_name(name: str) -> str:
    """A name as it stands in a message: short, and one line whatever it holds."""
    name = name[:SHOWN_CHARACTERS]
    return name if name.isprintable() else ascii(name)


class EngineError(Exception):
    """Root of the engine's errors. `code` is stable; `message` says what failed and what to do."""

    code = "INTERNAL"
    retryable = False

    def __init__(self, message: str, *, sandbox_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.sandbox_id = sandbox_id


class InvalidConfig(EngineError):
    code = "INVALID_CONFIG"


class InvalidRequest(EngineError):
    code = "INVALID_REQUEST"


class NotFound(EngineError):
    code = "NOT_FOUND"


class SandboxNotFound(NotFound):
    code = "SANDBOX_NOT_FOUND"


class FileNotFound(NotFound):
    code = "FILE_NOT_FOUND"


class KeyNotFound(NotFound):
    code = "KEY_NOT_FOUND"


class ProcessNotFound(NotFound):
    code = "PROCESS_NOT_FOUND"


class WatchNotFound(NotFound):
    code = "WATCH_NOT_FOUND"


class PortNotExposed(NotFound):
    code = "PORT_NOT_EXPOSED"


class InvalidPort(EngineError):
    code = "INVALID_PORT"


class PortNotListening(EngineError):
    code = "PORT_NOT_LISTENING"


class Forbidden(EngineError):
    code = "FORBIDDEN"


class SandboxNotRunning(EngineError):
    code = "SANDBOX_NOT_RUNNING"


class SandboxFailed(EngineError):
    code = "SANDBOX_FAILED"


class ProcessEnded(EngineError):
    code = "PROCESS_ENDED"


class StdinClosed(EngineError):
    code = "STDIN_CLOSED"


class StillRunning(EngineError):
    code = "TIMEOUT"


class CommandNotStarted(EngineError):
    """`reason` is one of `not_found`, `not_executable`, `bad_directory`, `unknown_user`, `spawn_failed`."""

    code = "COMMAND_NOT_STARTED"

    def __init__(self, message: str, *, reason: str, sandbox_id: str | None = None) -> None:
        super().__init__(message, sandbox_id=sandbox_id)
        self.reason = reason


class FileError(EngineError):
    """`reason` is the agent's word: `exists`, `is_a_directory`, `no_space` and so on."""

    code = "FILE_ERROR"

    def __init__(self, message: str, *, reason: str, sandbox_id: str | None = None) -> None:
        super().__init__(message, sandbox_id=sandbox_id)
        self.reason = reason


class TooLarge(EngineError):
    code = "TOO_LARGE"


class ResourceExhausted(EngineError):
    code = "RESOURCE_EXHAUSTED"
    retryable = True


class RuntimeUnavailable(EngineError):
    code = "RUNTIME_UNAVAILABLE"


class Internal(EngineError):
    retryable = True
