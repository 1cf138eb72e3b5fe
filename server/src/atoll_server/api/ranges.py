# SPDX-License-Identifier: Apache-2.0
"""Which part of a file a request asks for, and whether it is still the same file: RFC 9110, sections 8.8.3 and 14.

Pure. A range that is not understood, or that is one of several, counts as not there, as the RFC permits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atoll_server.engine.model import Entry

UNIT = "bytes"
# No file is as large, and Python reads numbers of as many digits at no cost.
LARGEST_NUMBER = 10**18
SETTLED_NANOSECONDS = 1_000_000_000
"""How old a change must be for the next one to have another time, whatever the grain of the file system's clock."""

_SPEC = re.compile(r"([0-9]*)[ \t]*-[ \t]*([0-9]*)", re.ASCII)


@dataclass(frozen=True)
class Wanted:
    """A range as it was asked for: from `first` to `last`, or to the end; without `first` the last `last` bytes."""

    first: int | None
    last: int | None


@dataclass(frozen=True)
class Part:
    """`length` bytes from `offset` on, at least one."""

    offset: int
    length: int


def parse_range(header: str) -> Wanted | None:
    """The one range of bytes that a `Range` header asks for, or None."""
    unit, _, ranges = header.partition("=")
    specs = [spec for part in ranges.split(",") if (spec := part.strip(" \t"))]
    if unit.strip(" \t").lower() != UNIT or len(specs) != 1:
        return None
    matched = _SPEC.fullmatch(specs[0])
    if matched is None or matched.groups() == ("", ""):
        return None
    first, last = (_number(digits) if digits else None for digits in matched.groups())
    if first is not None and last is not None and last < first:
        return None
    return Wanted(first, last)


def plan_part(wanted: Wanted, size: int) -> Part | None:
    """What there is of a range in `size` bytes. None where that is nothing."""
    if wanted.first is None:
        length = min(wanted.last or 0, size)
        return Part(size - length, length) if length else None
    if wanted.first >= size:
        return None
    last = size - 1 if wanted.last is None else min(wanted.last, size - 1)
    return Part(wanted.first, last - wanted.first + 1)


def make_etag(entry: Entry, now_ns: int) -> str | None:
    """What changes when the file does: its time, in nanoseconds, and its size. None for a file that has no size.

    Weak while another change could still get the same time. A sandbox can set the time of its own files as it likes;
    whoever wants to know that nobody did compares a digest.
    """
    if not entry.size:
        return None  # as under /proc, where what is read has nothing to do with the entry
    is_settled = entry.modified_ns < now_ns - SETTLED_NANOSECONDS
    return f'{"" if is_settled else "W/"}"{entry.modified_ns:x}-{entry.size:x}"'


def is_same(if_range: str, etag: str | None) -> bool:
    """Whether `If-Range` permits a part: by strong comparison. A date never does, its grain being too coarse."""
    return not if_range or (if_range == etag and not if_range.startswith("W/"))


def render_content_range(part: Part | None, size: int) -> str:
    if part is None:
        return f"{UNIT} */{size}"
    return f"{UNIT} {part.offset}-{part.offset + part.length - 1}/{size}"


def _number(digits: str) -> int:
    significant = digits.lstrip("0")
    return LARGEST_NUMBER if len(significant) > 18 else int(significant or "0")
