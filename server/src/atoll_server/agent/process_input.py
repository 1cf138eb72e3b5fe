# SPDX-License-Identifier: Apache-2.0
"""What a process of a sandbox is given to read."""

from __future__ import annotations

from atoll_server.agent.connection import Connection
from atoll_server.agent.exchange import control
from atoll_server.agent.frames import Kind, pieces
from atoll_server.agent.messages import TAKEN


class ProcessInput:
    """Bytes on their way to a process, at its own pace: it may leave its input alone for as long as it likes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._offset = 0

    async def write(self, data: bytes) -> bool:
        """False once nobody takes it, which is no error; `finish` says why."""
        for piece in pieces(data):
            if not await self._send(piece):
                return False
            self._offset += len(piece)
        return True

    async def end_of_file(self) -> bool:
        """The end of the process's input; at a terminal what ^D is. False as of `write`."""
        return await self._send(b"")

    async def finish(self, *, end: bool) -> int:
        """Waits until all of it has been taken and answers how much that was. `end`: there will never be more.

        For an input with a connection of its own, as `AgentClient.stdin` makes it.
        """
        if end:
            await self._send(b"")
        self._connection.end_sending()
        return TAKEN.read(await control(self._connection, None)).bytes

    async def _send(self, piece: memoryview | bytes) -> bool:
        return await self._connection.send_data(Kind.STDIN, self._offset, piece, timeout=None)
