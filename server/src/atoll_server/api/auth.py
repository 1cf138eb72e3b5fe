# SPDX-License-Identifier: Apache-2.0
"""Who may speak at all, and how often: default deny. What a key may do stands with each route, as its scope."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from atoll_server.api.errors import RateLimited, Unauthorized
from atoll_server.clock import Clock
from atoll_server.engine.keys import ApiKey, Keys
from atoll_server.engine.quotas import Quota

_CHALLENGE = ((b"www-authenticate", b"Bearer"),)
# What one customer of a provider has of IPv6, and could walk through.
_IPV6_PREFIX = 64


class Authentication:
    """Lets requests through whose bearer key is known, and those to public paths. Sets `scope["atoll.key"]`.

    `requests` bounds what comes with one key, `failures` how many wrong keys one address may try. While an address
    has to wait, no key is looked at that comes from it: an answer to the right one would make waiting pointless.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        public: Iterable[str],
        clock: Clock,
        requests: Quota | None,
        failures: Quota | None,
    ) -> None:
        self._app = app
        self._keys = keys
        self._public = frozenset(public)
        self._clock = clock
        self._requests = requests
        self._failures = failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in self._public:
            key = scope["atoll.key"] = self._authenticate(scope)
            self._count_request(key)
        await self._app(scope, receive, send)

    def _authenticate(self, scope: Scope) -> ApiKey:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if not given:
            raise Unauthorized(
                "no key: send the header `Authorization: Bearer <key>`", headers=_CHALLENGE
            )
        address = _address(scope)
        self._refuse_guessing(address)
        scheme, _, text = given[0].partition(b" ")
        key = (
            self._keys.verify(text.strip())
            if scheme.lower() == b"bearer" and len(given) == 1
            else None
        )
        if key is None:
            if self._failures is not None and address is not None:
                self._failures.take(address, self._clock.monotonic())
            raise Unauthorized("unknown key: check the one you send", headers=_CHALLENGE)
        return key

    def _refuse_guessing(self, address: str | None) -> None:
        if self._failures is None or address is None:
            return
        wait = self._failures.wait(address, self._clock.monotonic())
        if wait > 0:
            raise RateLimited("too many wrong keys came from your address", wait=wait)

    def _count_request(self, key: ApiKey) -> None:
        if self._requests is None:
            return
        wait = self._requests.take(key.id, self._clock.monotonic())
        if wait > 0:
            raise RateLimited("too many requests came with this key", wait=wait)


def _address(scope: Scope) -> str | None:
    """Whom wrong keys are counted for; None on a unix socket, which only its owner can open."""
    if scope["client"] is None:
        return None
    host: str = scope["client"][0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False))
