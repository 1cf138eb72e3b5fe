# SPDX-License-Identifier: Apache-2.0
"""What is said of input that is not the record: the field as written and what is allowed, with little of the input."""

from __future__ import annotations

from typing import Any

SHOWN_LENGTH = 64


class Malformed(Exception):
    """Input that is not the record; the message names the field as written and says what is allowed."""


def shown(value: Any) -> str:
    """A value out of the input, as a message may quote it: printable, in backticks, at most so long."""
    text = str(value)
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return f"`{text[:SHOWN_LENGTH]}…`" if len(text) > SHOWN_LENGTH else f"`{text}`"
