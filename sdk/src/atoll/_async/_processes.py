# SPDX-License-Identifier: Apache-2.0
"""Processes of a sandbox, which go on without whoever started them: starting, finding, listing."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from .. import _requests
from ..errors import InvalidRequest, ProcessNotFound
from ..models import ProcessInfo, ProcessPage, ProcessStatus, PtySize
from ._process import AsyncProcess
from ._transport import AsyncTransport


class AsyncProcessList:
    """Processes, newest first, to be iterated.

    Where no `limit` was given the iteration goes on to the last one, asking for further pages as it needs them.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        sandbox_id: str,
        page: ProcessPage,
        filters: Mapping[str, Any],
        *,
        goes_on: bool,
    ) -> None:
        self._transport = transport
        self._sandbox_id = sandbox_id
        self._page = page
        self._filters = filters
        self._goes_on = goes_on

    @property
    def has_more(self) -> bool:
        """Whether there are more behind this page."""
        return self._page.pagination.has_more

    @property
    def next_cursor(self) -> str | None:
        """The `cursor` of the next page; None on the last."""
        return self._page.pagination.next_cursor

    @property
    def items(self) -> list[AsyncProcess]:
        """Those of this page."""
        return [AsyncProcess(self._transport, self._sandbox_id, info) for info in self._page.data]

    async def __aiter__(self) -> AsyncIterator[AsyncProcess]:
        page = self._page
        while True:
            for info in page.data:
                yield AsyncProcess(self._transport, self._sandbox_id, info)
            cursor = page.pagination.next_cursor
            if not (self._goes_on and page.pagination.has_more and cursor):
                return
            page = await _fetch(self._transport, self._sandbox_id, self._filters, cursor)

    def __repr__(self) -> str:
        more = " and more" if self.has_more else ""
        return f"<{type(self).__name__} of {len(self._page.data)}{more}>"


class AsyncProcesses:
    """The processes of a sandbox, as `sandbox.processes`."""

    def __init__(self, transport: AsyncTransport, sandbox_id: str) -> None:
        self._transport = transport
        self._sandbox_id = sandbox_id

    async def start(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        run_as: str | None = None,
        stdin: str | bytes | None = None,
        stdin_open: bool = False,
        tag: str | None = None,
        pty: PtySize | tuple[int, int] | None = None,
        timeout_ms: int | None = None,
        idle_timeout_ms: int | None = None,
    ) -> AsyncProcess:
        """Starts a command and returns at once. It goes on until it ends, or the sandbox does.

        What `exec` takes means the same here, but `timeout_ms`, which is not set unless you do. `idle_timeout_ms` ends
        it after so long without output. Its input is `stdin`, then end of file; with `stdin_open` it stays open for
        `write_stdin`. `tag` is a name of yours to find it by. `pty=(rows, cols)` gives it a terminal, whose output is
        all `stdout`.

        Raises `CommandNotStarted` where it could not start.
        """
        values = _requests.process_values(
            command,
            cwd=cwd,
            env=env,
            user=user,
            run_as=run_as,
            stdin=stdin,
            stdin_open=stdin_open,
            tag=tag,
            pty=pty,
            timeout_ms=timeout_ms,
            idle_timeout_ms=idle_timeout_ms,
        )
        request = _requests.start_process(self._sandbox_id, values)
        return self._make(await self._transport.ask(ProcessInfo, request))

    async def get(
        self, process_id: str | None = None, *, pid: int | None = None, tag: str | None = None
    ) -> AsyncProcess:
        """The process of that id, or that `pid`, or that `tag`. Raises `ProcessNotFound`.

        Of several with one pid or tag it is the newest that runs, else the newest. Those that ended are known for an
        hour.
        """
        if sum(given is not None for given in (process_id, pid, tag)) != 1:
            raise InvalidRequest("give one of process_id, pid and tag")
        if process_id is not None:
            request = _requests.get_process(self._sandbox_id, process_id)
            return self._make(await self._transport.ask(ProcessInfo, request))
        for status in (ProcessStatus.RUNNING, None):
            filters = {"status": status, "tag": tag, "pid": pid, "limit": 1}
            page = await _fetch(self._transport, self._sandbox_id, filters, None)
            if page.data:
                return self._make(page.data[0])
        wanted = f"pid {pid}" if tag is None else f"tag {tag!r}"
        raise ProcessNotFound(f"sandbox {self._sandbox_id} has no process with {wanted}")

    async def list(
        self,
        *,
        status: ProcessStatus | str | Sequence[ProcessStatus | str] | None = None,
        tag: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncProcessList:
        """The processes in that state, or one of those, with that tag; ended ones too, for an hour.

        `limit` is 1 to 1000; `cursor` is the `next_cursor` of the page before.
        """
        filters = {"status": status, "tag": tag, "limit": limit}
        page = await _fetch(self._transport, self._sandbox_id, filters, cursor)
        return AsyncProcessList(
            self._transport, self._sandbox_id, page, filters, goes_on=limit is None
        )

    def _make(self, info: ProcessInfo) -> AsyncProcess:
        return AsyncProcess(self._transport, self._sandbox_id, info)


async def _fetch(
    transport: AsyncTransport, sandbox_id: str, filters: Mapping[str, Any], cursor: str | None
) -> ProcessPage:
    request = _requests.list_processes(sandbox_id, cursor=cursor, **filters)
    return await transport.ask(ProcessPage, request)
