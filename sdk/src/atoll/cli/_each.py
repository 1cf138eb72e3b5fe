# SPDX-License-Identifier: Apache-2.0
"""Commands that do one thing to several, of which some may fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .. import _wire
from ..errors import Error
from ..models import ProcessInfo, SandboxInfo
from ._exits import exit_status
from ._terminal import complain, show, show_json

Done = ProcessInfo | SandboxInfo | str


def do_each(names: Iterable[str], act: Callable[[str], Done], *, as_json: bool) -> int:
    """Do it to each, and show the ids of those that it was done to. One that fails keeps the others from nothing.

    `act` gives what JSON then says of one: what is known of it, or its id alone. Returns the status to end with: that
    of the last failure, else 0.
    """
    status = 0
    done = []
    for name in names:
        try:
            one = act(name)
        except Error as error:
            complain(f"{name}: {error.message}")
            status = exit_status(error)
            continue
        done.append(one)
        if not as_json:
            show(one if isinstance(one, str) else one.id)
    if as_json:
        show_json([_wire.to_plain(one) for one in done])
    return status
