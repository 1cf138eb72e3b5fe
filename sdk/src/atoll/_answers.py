# SPDX-License-Identifier: Apache-2.0
"""What answers outside 2xx mean, and whether a request is sent again after one. No I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ._requests import Header, Resend
from .errors import (
    ConnectFailed,
    ConnectionLost,
    Error,
    Forbidden,
    Internal,
    ProtocolError,
    RateLimited,
    ResourceExhausted,
    Unauthorized,
    error_from_answer,
)

BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 8.0
MAX_RETRY_AFTER_SECONDS = 30.0


def parse_error(status: int, headers: Sequence[Header], body: bytes) -> Error:
    """The error that an answer outside 2xx stands for."""
    try:
        error = json.loads(body)["error"]
        return error_from_answer(
            str(error["code"]),
            str(error["message"]),
            retryable=error.get("retryable") is True,
            request_id=error.get("requestId") or find_header(headers, b"x-request-id"),
            reason=error.get("reason"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _foreign_error(status, headers)


def find_header(headers: Sequence[Header], name: bytes) -> str | None:
    for key, value in headers:
        if key.lower() == name:
            return value.decode("latin-1")
    return None


def parse_retry_after(headers: Sequence[Header]) -> float | None:
    """The seconds that the server asks us to wait. Its date form is not used by Atoll and counts as absent."""
    value = find_header(headers, b"retry-after")
    if value is None or not value.strip().isdecimal():
        return None
    return float(value)


def plan_resend(
    error: Error,
    resend: Resend,
    *,
    sent_before: int,
    max_retries: int,
    retry_after: float | None,
    chance: float,
) -> float | None:
    """How long to wait before sending again, or None for not at all. `chance` in 0..1 spreads many clients out."""
    if sent_before > max_retries or not _may_resend(error, resend):
        return None
    if retry_after is not None:
        return retry_after if retry_after <= MAX_RETRY_AFTER_SECONDS else None
    backoff = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2 ** (sent_before - 1))
    return float(backoff * (0.5 + chance / 2))


def _may_resend(error: Error, resend: Resend) -> bool:
    if isinstance(error, ConnectFailed):
        return True
    if resend is Resend.REFUSED:
        return isinstance(error, ResourceExhausted | RateLimited) and error.retryable
    if resend is Resend.ALWAYS:
        return isinstance(error, ConnectionLost) or error.retryable
    return False


def _foreign_error(status: int, headers: Sequence[Header]) -> Error:
    request_id = find_header(headers, b"x-request-id")
    message = f"the server answered {status} without saying why"
    if status >= 500:
        return Internal(f"{message}; is the server up behind its proxy?", request_id=request_id)
    if status == 401:
        return Unauthorized(f"{message}; check the API key", request_id=request_id)
    if status == 403:
        return Forbidden(f"{message}; check the API key", request_id=request_id)
    return ProtocolError(f"{message}; is the URL that of an Atoll server?", request_id=request_id)
