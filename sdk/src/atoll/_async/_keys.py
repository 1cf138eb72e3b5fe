# SPDX-License-Identifier: Apache-2.0
"""The API keys of a server."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _requests
from ..models import KeyInfo, KeyList
from ._transport import AsyncTransport


class AsyncKeys:
    """The API keys of a server, as `client.keys`. The client's own key needs the scope `keys:manage`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self, name: str | None = None, *, scopes: str | Sequence[str] | None = None
    ) -> KeyInfo:
        """Makes a key. Its text is in `key` of what is returned, now and never again.

        `scopes` is such as `"sandbox:read sandbox:files"` or a list of these; without it `sandbox:*`, everything but
        managing keys. Raises `Forbidden` for a scope that the client's own key lacks.
        """
        request = _requests.create_key(name=name, scopes=scopes)
        return await self._transport.ask(KeyInfo, request)

    async def list(self) -> list[KeyInfo]:
        """All keys: those of the server's settings, then the others, oldest first."""
        return (await self._transport.ask(KeyList, _requests.list_keys())).data

    async def delete(self, key_id: str) -> None:
        """Withdraws a key: whoever has it is refused from now on. Raises `KeyNotFound`.

        Raises `InvalidRequest` for one that stands in the server's settings, and for the last that manages keys.
        """
        await self._transport.send(_requests.delete_key(key_id))
