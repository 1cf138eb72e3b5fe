# SPDX-License-Identifier: Apache-2.0
import json
import logging
import sys

import pytest

from atoll_server.logs import JsonFormatter, TextFormatter


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {
            "name": "atoll_server.api",
            "levelno": logging.INFO,
            "levelname": "INFO",
            "msg": message,
            "created": 0.5,
        }
    )
    vars(made).update(extra)
    return made


def test_text_is_one_line_with_its_fields() -> None:
    assert TextFormatter().format(record("made", sandbox_id="sb_1")) == (
        "1970-01-01T00:00:00.500Z info api: made sandbox_id=sb_1"
    )


@pytest.mark.parametrize("hostile", ["a\nb", "\x1b]52;c;x\x07", "\u202e"])
def test_text_of_others_cannot_forge_lines_or_drive_the_terminal(hostile: str) -> None:
    line = TextFormatter().format(record(f"said {hostile}", path=hostile))

    assert line.isprintable()


def test_json_is_one_object() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        failed = record("failed\n", request_id="req_1", exc_info=sys.exc_info())

    line = JsonFormatter().format(failed)

    assert "\n" not in line
    assert (
        json.loads(line).items()
        >= {"level": "info", "message": "failed\n", "request_id": "req_1"}.items()
    )
    assert "ValueError: broken" in json.loads(line)["exception"]
