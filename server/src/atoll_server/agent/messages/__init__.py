# SPDX-License-Identifier: Apache-2.0
"""Requests and replies of the agent protocol as typed records.

A reply is input from inside the sandbox: it becomes a record only when every field has the type and range it should.
"""

from __future__ import annotations

from atoll_server.agent.messages.answers import (
    DONE,
    READY,
    Answer,
    Done,
)
from atoll_server.agent.messages.files import (
    FILE,
    LISTING,
    STAT,
    UNPACKED,
    WRITTEN,
    ListedReply,
    read_entry,
)
from atoll_server.agent.messages.handshake import (
    ENDS_FEATURE,
    GENERATION,
    HELLO,
    INTRODUCED,
    PROCESSES_GENERATION,
    SOCKETS_FEATURE,
    Hello,
)
from atoll_server.agent.messages.ports import (
    CONNECTED,
    LISTENERS,
    ListenersEnd,
    read_listener,
)
from atoll_server.agent.messages.processes import (
    ATTACHED,
    ENDED,
    LISTENING,
    MAX_NOTE_BYTES,
    PROCESSES,
    SIGNALLED,
    TAKEN,
    read_end,
    read_exit,
    read_process,
)
from atoll_server.agent.messages.starts import (
    STARTED,
    StartRequest,
)
from atoll_server.agent.messages.values import (
    Fields,
    wire_text,
)
from atoll_server.agent.messages.watches import (
    CHANGES,
    WATCHED,
    WATCHES,
    ChangeReply,
    ChangesReply,
    read_change,
    read_watch,
)

__all__ = [
    "ATTACHED",
    "Answer",
    "CHANGES",
    "CONNECTED",
    "ChangeReply",
    "ChangesReply",
    "DONE",
    "Done",
    "ENDED",
    "ENDS_FEATURE",
    "FILE",
    "Fields",
    "GENERATION",
    "HELLO",
    "Hello",
    "INTRODUCED",
    "SOCKETS_FEATURE",
    "LISTENERS",
    "LISTENING",
    "LISTING",
    "ListedReply",
    "ListenersEnd",
    "MAX_NOTE_BYTES",
    "PROCESSES",
    "PROCESSES_GENERATION",
    "READY",
    "SIGNALLED",
    "STARTED",
    "STAT",
    "StartRequest",
    "TAKEN",
    "UNPACKED",
    "WATCHED",
    "WATCHES",
    "WRITTEN",
    "read_change",
    "read_end",
    "read_entry",
    "read_exit",
    "read_listener",
    "read_process",
    "read_watch",
    "wire_text",
]
