# SPDX-License-Identifier: Apache-2.0
"""Waiting for what another process does. Nothing tells us when, so we look again and again, up to a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_STEP = 0.02


def wait_until(look: Callable[[], T], *, within: float = 60.0, what: str = "it") -> T:
    """The first true value that `look` returns; an error when none came in time."""
    deadline = time.monotonic() + within
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {within:g} s; last seen: {seen!r}")
        rest(_STEP)
    return seen


def rest(seconds: float) -> None:
    """Let time pass: for showing that something does *not* happen in it."""
    threading.Event().wait(seconds)
