# SPDX-License-Identifier: Apache-2.0
"""What an agent and its server say first, and what an agent of each generation understands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import Meta, Struct

from atoll_server.agent.messages.answers import Answer
from atoll_server.agent.messages.values import Pid

GENERATION: Final = 4
PROCESSES_GENERATION: Final = 2
"""The first that keeps processes beyond the connection that started them."""
WATCHES_GENERATION: Final = 3
"""The first that watches directories."""
PORTS_GENERATION: Final = 4
"""The first that connects to ports."""
ENDS_FEATURE: Final = "ends"
"""Said by an agent that tells of every process that ends."""
SOCKETS_FEATURE: Final = "sockets"
"""Said by one that goes on over a socket that came with the request."""

_FIRST: Final = (
    *("hello", "start", "signal", "kill_largest"),
    *("stat", "list", "read", "write", "mkdir", "move", "copy", "remove", "chmod", "chown"),
    *("pack", "unpack"),
)
_OF_PROCESSES: Final = ("processes", "attach", "stdin", "resize", "forget", "configure", "ends")
_OF_WATCHES: Final = ("watch", "watches", "changes", "unwatch")
_OF_PORTS: Final = ("dial", "ports")
INTRODUCED: Final[Mapping[str, int]] = {
    **dict.fromkeys(_FIRST, 1),
    **dict.fromkeys(_OF_PROCESSES, PROCESSES_GENERATION),
    **dict.fromkeys(_OF_WATCHES, WATCHES_GENERATION),
    **dict.fromkeys(_OF_PORTS, PORTS_GENERATION),
}
"""The first generation that knows an operation."""


class Hello(Struct, tag_field="event", tag="done", frozen=True):
    """The agent's introduction. `generation` is the highest that it speaks."""

    generation: Annotated[int, Meta(ge=1, le=2**31)]
    version: Annotated[str, Meta(max_length=100)]
    pid: Pid
    features: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=100)]


HELLO: Final = Answer(Hello)
