# SPDX-License-Identifier: Apache-2.0
"""How soon the server gets a processor beside sandboxes, and other programs of the host, that take all they can get.

A request passes through the server several times, for a moment each: what it waits there, every sandbox's client waits.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from atoll_server.runtimes import kernel

logger = logging.getLogger(__name__)

NICE = -10
"""Of the server's session, where the host shares processors by sessions: it then weighs as nine others."""
_AUTOGROUP = Path("/proc/self/autogroup")


def take() -> None:
    """Wait less for processors, with everything that is started from now on.

    Called by the only thread, while it has the rights of root: the weight of a session is not an unprivileged
    program's to raise. What the host refuses is left as it is.
    """
    try:
        kernel.set_turns(kernel.SHORTEST_TURN_NS, policy=os.sched_getscheduler(0))
        _raise_session()
    except OSError as error:
        logger.debug("waits for processors as any other program", extra={"why": str(error)})


def parse_nice(autogroup: str) -> int | None:
    """The nice value in what `/proc/PID/autogroup` says; None where it says something else."""
    found = re.fullmatch(r"/autogroup-\d+ nice (-?\d+)", autogroup.strip())
    return int(found[1]) if found else None


def _raise_session() -> None:
    """Give the server's session more weight (sched(7), "The autogroup feature"), unless somebody has chosen one for it.

    A session that another program leads, such as the shell that the server was typed into, is that program's.
    """
    if os.getsid(0) != os.getpid() or not _AUTOGROUP.exists():
        return
    if parse_nice(_AUTOGROUP.read_text()) == 0:
        _AUTOGROUP.write_text(str(NICE))
