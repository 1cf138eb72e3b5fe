# SPDX-License-Identifier: Apache-2.0
"""Values that records of many kinds have: bytes, paths, instants."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime

from atoll_server.engine.errors import InvalidRequest


def parse_content(name: str, text: str, encoding: str) -> bytes:
    if encoding == "utf-8":
        return text.encode("utf-8")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"`{name}` is not base64") from None


def render_path(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def render_instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def render_nanoseconds(nanoseconds: int) -> str:
    """A sandbox may give a file any time at all; one that no calendar holds is shown as its nearest end."""
    try:
        return render_instant(datetime.fromtimestamp(nanoseconds / 1e9, UTC))
    except (OverflowError, ValueError, OSError):
        return "9999-12-31T23:59:59.999Z" if nanoseconds > 0 else "0001-01-01T00:00:00.000Z"
