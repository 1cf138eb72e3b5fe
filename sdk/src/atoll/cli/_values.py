# SPDX-License-Identifier: Apache-2.0
"""What people write on a command line, and what it means."""

from __future__ import annotations

import re
from collections.abc import Sequence

import typer

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")
_UNIT_MS = {"ms": 1, "": 1000, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE = re.compile(r"(\d+)([mg]?)i?b?", re.IGNORECASE)
_REMOTE = re.compile(r"([A-Za-z0-9_-]{2,}):(.*)", re.DOTALL)


def parse_duration(text: str | None) -> int | None:
    """Milliseconds of `500ms`, `30s`, `5m`, `1h`, or `30`, which is seconds."""
    if text is None:
        return None
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time such as 500ms, 30s, 5m or 1h")
    return round(float(match[1]) * _UNIT_MS[match[2]])


def parse_size(text: str | None) -> int | None:
    """MiB of `4096`, `4096m` or `4g`."""
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a size such as 4096, 4096m or 4g (MiB)")
    return int(match[1]) * (1024 if match[2].lower() == "g" else 1)


def parse_pairs(option: str, texts: Sequence[str] | None) -> dict[str, str] | None:
    """The mapping that repeated `KEY=VALUE` make."""
    if not texts:
        return None
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{option} {text!r} is not KEY=VALUE")
        pairs[key] = value
    return pairs


def parse_place(text: str) -> tuple[str | None, str]:
    """The sandbox, None for here, and the path of `ID:/path` or `path`. `./a:b` is a local file."""
    match = _REMOTE.fullmatch(text)
    if match is None:
        return None, text
    return match[1], match[2] or "."


def choose_command(words: Sequence[str], shell: str | None) -> str | list[str]:
    """The command to run: shell text, or words as they are. One word with a space in it is shell text."""
    if shell is not None and words:
        raise typer.BadParameter("give either -c TEXT or a command, not both")
    if shell is not None:
        return shell
    if not words:
        raise typer.BadParameter("what shall run? give a command, or -c TEXT")
    return words[0] if len(words) == 1 and " " in words[0].strip() else list(words)
