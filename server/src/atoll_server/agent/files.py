# SPDX-License-Identifier: Apache-2.0
"""Files of a sandbox on their way: a directory's entries, and content in either direction."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Self

from atoll_server.agent.connection import Connection
from atoll_server.agent.errors import AgentProtocolError
from atoll_server.agent.exchange import (
    MAX_LISTING_BYTES,
    REPLY_TIMEOUT,
    TREE_TIMEOUT,
    control,
    reply,
)
from atoll_server.agent.frames import Kind, pieces
from atoll_server.agent.messages import DONE, LISTING, ListedReply, read_entry
from atoll_server.engine.model import Entry, Listing


async def read_listing(connection: Connection, limit: int) -> Listing:
    """All entries that an agent lists, which was asked for at most `limit`."""
    entries: list[Entry] = []
    budget = MAX_LISTING_BYTES
    while True:
        payload = await control(connection, TREE_TIMEOUT)
        answered = LISTING.read(payload)
        if isinstance(answered, ListedReply):
            return Listing(tuple(entries), answered.truncated)
        entries.extend(map(read_entry, answered.entries))
        budget -= len(payload)
        if len(entries) > limit or budget < 0:
            raise AgentProtocolError("agent lists more than it was asked for")


class Content:
    """The bytes of a file or an archive, in order. It has ended only when the agent says that all went well."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._offset = 0
        self._first: bytes | None = None
        self._has_ended = False

    async def prepare(self) -> None:
        """Waits for the first bytes, so that a refusal comes before anything was promised."""
        self._first = await self._receive()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._has_ended:
            raise StopAsyncIteration
        chunk, self._first = self._first, None
        if chunk is None:
            chunk = await self._receive()
        if not chunk:
            self._has_ended = True
            await reply(self._connection, DONE, REPLY_TIMEOUT)
            raise StopAsyncIteration
        return chunk

    async def _receive(self) -> bytes:
        kind, offset, payload = await self._connection.receive(REPLY_TIMEOUT)
        if kind == Kind.CONTROL:
            DONE.read(payload)
            raise AgentProtocolError("content without an end")
        if kind != Kind.CONTENT or offset != self._offset:
            raise AgentProtocolError(f"frame of kind {kind} at {offset} instead of content")
        self._offset += len(payload)
        return payload


async def send_content(connection: Connection, chunks: AsyncIterable[bytes]) -> None:
    """Sends all chunks and the end. Stops where the agent has hung up: it has said why."""
    connection.expect_bulk()
    offset = 0
    async for chunk in chunks:
        for piece in pieces(chunk):
            if not await connection.send_data(Kind.CONTENT, offset, piece):
                return
            offset += len(piece)
    await connection.send_data(Kind.CONTENT, offset, b"")
