# SPDX-License-Identifier: Apache-2.0
"""What reading the first bytes of a connection may come to, beside what was looked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Incomplete:
    """What is there is sound so far, and not all yet."""


@dataclass(frozen=True)
class Refused:
    """It is not what it should be, or hides what must be seen. `why` is for whoever sent it."""

    why: str


INCOMPLETE = Incomplete()
