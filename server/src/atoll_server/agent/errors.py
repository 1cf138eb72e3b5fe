# SPDX-License-Identifier: Apache-2.0
"""Everything that an operation on an agent can end with instead of its answer.

AgentFailure
├── AgentError             refused, with one of the protocol's codes
├── AgentUnavailable       cannot be reached, went away before its last word, or silent past a deadline
└── AgentProtocolError     sent what it may not: whatever answered is no agent of ours
"""

from __future__ import annotations


class AgentFailure(Exception):
    """Root of this layer's errors."""


class AgentError(AgentFailure):
    """`code` is one of the protocol's, `errno` 0 where no system call failed.

    A request that cannot be sent at all is refused here, before the agent, with the code that it would have used.
    """

    def __init__(self, code: str, errno: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.errno = errno
        self.message = message


class AgentUnavailable(AgentFailure):
    pass


class AgentProtocolError(AgentFailure):
    pass
