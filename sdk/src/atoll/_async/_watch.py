# SPDX-License-Identifier: Apache-2.0
"""One watch over a directory, as a program holds it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType

from .. import _requests
from .._changes import ChangeReader
from .._requests import Request
from ..errors import SandboxNotFound, WatchNotFound
from ..models import FileChange, WatchInfo
from ._follow import follow_stream
from ._leaving import end_with_block
from ._transport import AsyncTransport

STOP_SECONDS = 10.0
"""How long leaving a `with` block whose task was cancelled may take."""


class AsyncWatch:
    """A watch over a directory of a sandbox. It goes on without this object, this program and the server, until it is
    stopped or nobody has read it for its `linger_ms`.

    To be iterated: each change comes once, and the iteration waits for the next one until the watch ends. Begun anew
    it goes on where it was left. As a context manager it is stopped at the end of the block.
    """

    def __init__(self, transport: AsyncTransport, sandbox_id: str, info: WatchInfo) -> None:
        self._transport = transport
        self._sandbox_id = sandbox_id
        self._info = info
        self._told = 0

    @property
    def info(self) -> WatchInfo:
        """Everything that the server said about it."""
        return self._info

    @property
    def id(self) -> str:
        """Its name on the server, to be taken as opaque."""
        return self._info.id

    @property
    def sandbox_id(self) -> str:
        """The sandbox that it is in."""
        return self._sandbox_id

    @property
    def path(self) -> str:
        """The directory, absolute, at the end of all links."""
        return self._info.path

    @property
    def recursive(self) -> bool:
        """Whether it is about all directories beneath too."""
        return self._info.recursive

    @property
    def created_at(self) -> str:
        """ISO 8601, UTC."""
        return self._info.created_at

    @property
    def first(self) -> int:
        """The number of the oldest change that is kept."""
        return self._info.first

    @property
    def last(self) -> int:
        """The number of the newest change that is known here; 0 before there is one."""
        return max(self._info.last, self._told)

    @property
    def ended(self) -> str | None:
        """Why it tells no more: `removed` (its directory is gone), `stopped` or `failed`; None while it goes on."""
        return self._info.ended

    async def refresh(self) -> None:
        """Brings the attributes up to date."""
        request = _requests.get_watch(self._sandbox_id, self.id)
        self._info = await self._transport.ask(WatchInfo, request)

    async def changes(
        self, since: int | None = None, *, follow: bool = True
    ) -> AsyncGenerator[FileChange, None]:
        """The changes after the one with the number `since`: 0 begins with the oldest that is kept, None goes on after
        what this object has told.

        Goes on by itself where it was when the connection breaks or the server is started anew, for a minute; each
        change comes once. Where changes were lost there is one of the kind `overflow`. With `follow=False` it ends
        with what there is now, everything included that finished before the call. Leaving changes nothing for the
        watch.
        """
        reader = ChangeReader(self._told if since is None else since)
        _requests.check_since(reader.last, counts="changes")

        def request() -> Request:
            return _requests.stream_changes(
                self._sandbox_id, self.id, since=reader.last, follow=follow
            )

        async with aclosing(follow_stream(self._transport, reader, request)) as changes:
            async for change in changes:
                self._told = max(self._told, change.number)
                yield change
        self._note_end(reader.ended)

    def __aiter__(self) -> AsyncGenerator[FileChange, None]:
        return self.changes()

    async def stop(self) -> None:
        """Ends it; who follows it comes to an end. May be repeated."""
        try:
            await self._transport.send(_requests.stop_watch(self._sandbox_id, self.id))
        except (WatchNotFound, SandboxNotFound):
            pass  # it is gone already, or all of the sandbox: what was wanted
        self._note_end("stopped")

    async def __aenter__(self) -> AsyncWatch:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await end_with_block(self.stop, STOP_SECONDS, error, f"watch {self.id} was not stopped")

    def _note_end(self, ended: str | None) -> None:
        self._info = dataclasses.replace(self._info, ended=self._info.ended or ended)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self.path!r} in {self._sandbox_id}>"
