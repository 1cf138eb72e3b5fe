# SPDX-License-Identifier: Apache-2.0
"""The client: one server, one key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any

from .. import _requests
from .._config import load_settings, mask_key
from .._feed import check_types
from ..models import Event, Health, ImageInfo, ImageList, PoolInfo
from ._feed import AsyncOnEvent, AsyncSubscription, read_events, subscribe
from ._keys import AsyncKeys
from ._sandboxes import AsyncSandboxes
from ._transport import AsyncTransport


class AsyncAtoll:
    """A client of one server.

        async with AsyncAtoll() as client:
            async with await client.sandboxes.create("host") as sandbox:
                result = await sandbox.exec("echo hello")

    `api_url` is `http://…`, `https://…` or `unix:///path/to.sock`. What is not given comes from `ATOLL_URL` and
    `ATOLL_API_KEY`, then from `atoll.toml` here or `~/.config/atoll/config.toml`. Where no URL is known, a private
    server is started on this machine with the first request and ended, with its sandboxes, with the last client.

    `timeout_ms` bounds the wait for an answer; commands and creating have limits of their own. `max_retries` is how
    often a request that failed for the server's reasons is sent again, where that cannot do harm: commands never are.
    `sandbox` takes the same in nested form (`provider`, `api_key`, `api_url`, `defaults`); `defaults` fills what a
    `create` leaves out. `observability` is kept for later.

    Raises `InvalidConfig` for what cannot be. A client may be used by many tasks at once, of one event loop.
    """

    def __init__(
        self,
        api_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_ms: int | None = None,
        max_retries: int | None = None,
        sandbox: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        observability: Mapping[str, Any] | None = None,
    ) -> None:
        settings = load_settings(
            {
                "api_url": api_url,
                "api_key": api_key,
                "timeout_ms": timeout_ms,
                "max_retries": max_retries,
                "sandbox": sandbox,
                "defaults": defaults,
            }
        )
        self._transport = AsyncTransport(settings)
        self._sandboxes = AsyncSandboxes(self._transport, settings.defaults)
        self._keys = AsyncKeys(self._transport)
        self._defaults = settings.defaults
        self.observability = observability

    @property
    def sandboxes(self) -> AsyncSandboxes:
        """The server's sandboxes."""
        return self._sandboxes

    @property
    def keys(self) -> AsyncKeys:
        """The server's API keys."""
        return self._keys

    @property
    def api_url(self) -> str | None:
        """Where the server is; None as long as no private one was needed."""
        return None if self._transport.endpoint is None else self._transport.endpoint.url

    @property
    def api_key(self) -> str:
        """The key, masked."""
        return mask_key(self._transport.api_key)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """What fills in a `create`, from all sources."""
        return self._defaults

    async def health(self) -> Health:
        """What the server says of itself."""
        return await self._transport.ask(Health, _requests.health())

    async def images(self) -> list[ImageInfo]:
        """What sandboxes of this server can be made of: `host` first."""
        return (await self._transport.ask(ImageList, _requests.list_images())).data

    async def pool(self) -> PoolInfo:
        """What the server holds ready for whoever creates a sandbox next. The key needs the scope `pool:manage`."""
        return await self._transport.ask(PoolInfo, _requests.get_pool())

    async def resize_pool(self, size: int) -> PoolInfo:
        """Has the server hold `size` sandboxes ready, at most 1000, until it ends. They are built in the background.

        The key needs the scope `pool:manage`.
        """
        return await self._transport.ask(PoolInfo, _requests.resize_pool(size))

    async def events(
        self,
        types: str | Sequence[str] | None = None,
        *,
        since: str | None = None,
        follow: bool = True,
    ) -> AsyncGenerator[Event, None]:
        """What happens to the server's sandboxes and in them, of some `types` or of all.

        Begins with the oldest that the server still knows, behind the event with the id `since`, or with
        `since="latest"` now. Goes on by itself where it was when the connection breaks, for a minute. What cannot be
        told is told to be missing: an event of the type `events.lost`, which comes whatever the `types`. With
        `follow=False` it ends with what there is now. The key needs the scope `events:read`.
        """
        wanted = check_types(types)
        feed = read_events(self._transport, None, wanted, since, follow=follow)
        async with aclosing(feed) as events:
            async for event in events:
                yield event

    async def on(self, types: str | Sequence[str], on_event: AsyncOnEvent) -> AsyncSubscription:
        """Calls `on_event` with each event of these `types` that happens from now on; `"*"` is all of them.

        `on_event` is called beside the rest of the program; see the subscription that this returns.
        Raises `InvalidRequest` for a type that there is not.
        """
        return await subscribe(self._transport, None, check_types(types), on_event)

    async def aclose(self) -> None:
        """Ends subscriptions, closes connections, and a private server with the last client. May be repeated.

        Sandboxes of any other server live on.
        """
        await self._transport.aclose()

    async def __aenter__(self) -> AsyncAtoll:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.api_url or 'private'} key {self.api_key}>"
