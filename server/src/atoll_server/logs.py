# SPDX-License-Identifier: Apache-2.0
"""Logging set-up: one line a record on stderr, as text or JSON, with the fields given as `extra`.

Whoever logs gives ids and counts, never keys, environments, commands or file contents.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}
# Theirs warn of what any peer may do to us at any rate; ours say what matters.
_QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio")


def set_up(level: str, style: str) -> None:
    """Configure the process's logging: from this level on, as `text` or `json`. Called once, by `serve`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.ERROR)
    # How a stop ends requests that take too long is no error, nor is an answer that a program inside has cut off.
    expected = ("Cancel ", "ASGI callable returned without completing response")
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: not str(record.msg).startswith(expected)
    )
    # The access log costs more than the request it tells of.
    logging.getLogger("uvicorn.access").propagate = False


class TextFormatter(logging.Formatter):
    """`2030-01-01T00:00:00.000Z info engine: message key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_plain(value)}" for name, value in _extra(record).items())
        line = f"{_instant(record)} {record.levelname.lower()} {_area(record)}: {_plain(record.getMessage())}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _instant(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _instant(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _area(record: logging.LogRecord) -> str:
    return record.name.removeprefix("atoll_server.")


def _plain(value: object) -> str:
    """Text on one line and without terminal controls: parts of it may come from a sandbox."""
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}
