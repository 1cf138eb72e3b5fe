# SPDX-License-Identifier: Apache-2.0
"""What the API says no with, and the one table from the engine's codes to statuses.

HttpError
├── Unauthorized
├── RateLimited
├── RouteNotFound
├── MethodNotAllowed
├── UnsupportedMediaType
└── RangeNotSatisfiable
ClientGone                 not an answer: there is nobody left to have it
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from atoll_server.engine.errors import EngineError

STATUS_BY_CODE: Mapping[str, int] = {
    "INVALID_CONFIG": 400,
    "INVALID_REQUEST": 400,
    "INVALID_PORT": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "SANDBOX_NOT_FOUND": 404,
    "FILE_NOT_FOUND": 404,
    "KEY_NOT_FOUND": 404,
    "PROCESS_NOT_FOUND": 404,
    "WATCH_NOT_FOUND": 404,
    "PORT_NOT_EXPOSED": 404,
    "METHOD_NOT_ALLOWED": 405,
    "TIMEOUT": 408,
    "SANDBOX_NOT_RUNNING": 409,
    "SANDBOX_FAILED": 409,
    "FILE_ERROR": 409,
    "PROCESS_ENDED": 409,
    "STDIN_CLOSED": 409,
    "PORT_NOT_LISTENING": 409,
    "TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "RANGE_NOT_SATISFIABLE": 416,
    "COMMAND_NOT_STARTED": 422,
    "RATE_LIMITED": 429,
    "INTERNAL": 500,
    "RESOURCE_EXHAUSTED": 503,
    "RUNTIME_UNAVAILABLE": 503,
}

MESSAGE_LIMIT = 1000


class HttpError(Exception):
    """Root of what only HTTP can refuse."""

    code = "INVALID_REQUEST"
    retryable = False

    def __init__(self, message: str, *, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers


class Unauthorized(HttpError):
    code = "UNAUTHORIZED"


class RateLimited(HttpError):
    """Says in `Retry-After`, in whole seconds, when to come back."""

    code = "RATE_LIMITED"
    retryable = True

    def __init__(self, message: str, *, wait: float) -> None:
        seconds = max(1, math.ceil(wait))
        headers = ((b"retry-after", b"%d" % seconds),)
        super().__init__(f"{message}; come back in {seconds} s", headers=headers)


class RouteNotFound(HttpError):
    code = "NOT_FOUND"


class MethodNotAllowed(HttpError):
    code = "METHOD_NOT_ALLOWED"


class UnsupportedMediaType(HttpError):
    code = "UNSUPPORTED_MEDIA_TYPE"


class RangeNotSatisfiable(HttpError):
    """Says in `Content-Range` how large the file is."""

    code = "RANGE_NOT_SATISFIABLE"


class ClientGone(Exception):
    """The client closed its connection before its answer."""


@dataclass(frozen=True)
class ErrorReply:
    """An error as it is answered."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = field(default=())


def render_error(error: Exception, request_id: str) -> ErrorReply:
    """The answer to a request that failed so."""
    members = error_members(error, request_id)
    headers = error.headers if isinstance(error, HttpError) else ()
    body = msgspec.json.encode({"error": members})
    return ErrorReply(status=STATUS_BY_CODE[members["code"]], body=body, headers=headers)


def error_members(error: Exception, request_id: str) -> dict[str, Any]:
    """The members of `error`, also for streams that end with one. What is not ours to explain says nothing."""
    if not isinstance(error, EngineError | HttpError):
        message = f"internal error; the server's log has more under {request_id}"
        return {"code": "INTERNAL", "message": message, "retryable": True, "requestId": request_id}
    return {**failure_members(error), "requestId": request_id}


def failure_members(error: EngineError | HttpError) -> dict[str, Any]:
    """What is wrong, without the request, of which it may be only a part."""
    members: dict[str, Any] = {
        "code": error.code,
        # Paths inside a sandbox may be any bytes, and messages quote them.
        "message": error.message[:MESSAGE_LIMIT]
        .encode("utf-8", "backslashreplace")
        .decode("utf-8"),
        "retryable": error.retryable,
    }
    reason = getattr(error, "reason", None)
    if reason is not None:
        members["reason"] = str(reason)
    return members
