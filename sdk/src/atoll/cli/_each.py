# SPDX-License-Identifier: Apache-2.0
"""Commands that do one thing to several, of which some may fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .. import _wire
from ..errors import Error
from ..models import ProcessInfo, SandboxInfo
from ._exits import exit_status
from ._terminal import complain, show, show_json


def do_each(
    names: Iterable[str], act: Callable[[str], ProcessInfo | SandboxInfo], *, as_json: bool
) -> int:
    """Do it to each, and show the ids of those that it was done to. One that fails keeps the others from nothing.

    Returns the status to end with: that of the last failure, else 0.
    """
    status = 0
    done = []
    for name in names:
        try:
            info = act(name)
        except Error as error:
            complain(f"{name}: {error.message}")
            status = exit_status(error)
            continue
        done.append(info)
        if not as_json:
            show(info.id)
    if as_json:
        show_json([_wire.to_plain(info) for info in done])
    return status
