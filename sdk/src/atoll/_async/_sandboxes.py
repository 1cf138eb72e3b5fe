# SPDX-License-Identifier: Apache-2.0
"""The sandboxes of a server: making, finding, listing."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any

from .. import _requests
from .._config import merge_create
from .._policies import NetworkPolicy
from ..models import Resources, Runtime, SandboxInfo, SandboxPage, SandboxState, Secret
from ._sandbox import AsyncSandbox
from ._transport import AsyncTransport


class AsyncSandboxList:
    """Sandboxes, newest first, to be iterated.

    Where no `limit` was given the iteration goes on to the last one, asking for further pages as it needs them.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        page: SandboxPage,
        filters: Mapping[str, Any],
        *,
        goes_on: bool,
    ) -> None:
        self._transport = transport
        self._page = page
        self._filters = filters
        self._goes_on = goes_on

    @property
    def total(self) -> int:
        """How many match, on all pages."""
        return self._page.pagination.total

    @property
    def has_more(self) -> bool:
        """Whether there are more behind this page."""
        return self._page.pagination.has_more

    @property
    def items(self) -> list[AsyncSandbox]:
        """Those of this page."""
        return [AsyncSandbox(self._transport, info) for info in self._page.data]

    async def __aiter__(self) -> AsyncIterator[AsyncSandbox]:
        page = self._page
        seen: set[str] = set()
        while True:
            for info in page.data:
                # One created meanwhile pushes others to the next page, where they would come again.
                if info.id not in seen:
                    seen.add(info.id)
                    yield AsyncSandbox(self._transport, info)
            if not (self._goes_on and page.pagination.has_more and page.data):
                return
            offset = page.pagination.offset + len(page.data)
            page = await _fetch(self._transport, {**self._filters, "offset": offset})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.total}>"


class AsyncSandboxes:
    """The sandboxes of a server, as `client.sandboxes`."""

    def __init__(self, transport: AsyncTransport, defaults: Mapping[str, Any]) -> None:
        self._transport = transport
        self._defaults = defaults

    async def create(
        self,
        image: str | None = None,
        *,
        resources: Resources | Mapping[str, float] | None = None,
        cpu: float | None = None,
        memory_mb: int | None = None,
        disk_mb: int | None = None,
        pids: int | None = None,
        open_files: int | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        timeout_ms: int | None = None,
        idle_timeout_ms: int | None = None,
        metadata: Mapping[str, str] | None = None,
        runtime: Runtime | str | None = None,
        network: NetworkPolicy | None = None,
        secrets: Mapping[str, Secret | Mapping[str, Any]] | None = None,
    ) -> AsyncSandbox:
        """Makes a sandbox and returns once it runs.

        What is not given comes from the client's `defaults`, else from the server: 2 CPUs, 4096 MB of memory, 10240 MB
        of disk, `/workspace`, a lifetime (`timeout_ms`) of 300,000 ms. `pids` are processes and threads at once,
        `open_files` those of one process. `cpu` to `open_files` are the same as in `resources`, and win.
        `idle_timeout_ms` acts once pausing exists.

        `network` is what it may reach: `"allow"` (which it is if absent, unless the server has another default),
        `"deny"`, `"none"` (for good), or such as `{"allow": ["example.com", "*.example.com:22"], "deny": []}`, which
        denies what it does not name. `secrets` are environment variables that hold a placeholder inside, in whose place
        a value is put on its way to the hosts of the secret: `{"API_KEY": Secret("sk-…", hosts=["api.example.com"])}`.

        Raises `InvalidConfig` for what cannot be, `ResourceExhausted` when there is no room, `RuntimeUnavailable` when
        the server has no such runtime, or a network is asked for and it gives none.
        """
        flat = {
            "cpu": cpu,
            "memory_mb": memory_mb,
            "disk_mb": disk_mb,
            "pids": pids,
            "open_files": open_files,
        }
        wanted = dataclasses.asdict(resources) if isinstance(resources, Resources) else resources
        said = (*(wanted or {}).items(), *flat.items())
        limits = {name: value for name, value in said if value is not None}
        call = {
            "image": image,
            "resources": limits or None,
            "env": env,
            "workdir": workdir,
            "timeout_ms": timeout_ms,
            "idle_timeout_ms": idle_timeout_ms,
            "metadata": metadata,
            "runtime": runtime,
            "network": network,
            "secrets": secrets,
        }
        request = _requests.create_sandbox(merge_create(self._defaults, call))
        return AsyncSandbox(self._transport, await self._transport.ask(SandboxInfo, request))

    async def get(self, sandbox_id: str) -> AsyncSandbox:
        """The sandbox of that id, terminated ones too. Raises `SandboxNotFound`."""
        request = _requests.get_sandbox(sandbox_id)
        return AsyncSandbox(self._transport, await self._transport.ask(SandboxInfo, request))

    async def list(
        self,
        *,
        state: SandboxState | str | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> AsyncSandboxList:
        """The sandboxes in that state, with all of these labels; terminated ones too. `limit` is 1 to 100."""
        filters = {"state": state, "metadata": metadata, "limit": limit, "offset": offset}
        page = await _fetch(self._transport, filters)
        return AsyncSandboxList(self._transport, page, filters, goes_on=limit is None)


async def _fetch(transport: AsyncTransport, filters: Mapping[str, Any]) -> SandboxPage:
    return await transport.ask(SandboxPage, _requests.list_sandboxes(**filters))
