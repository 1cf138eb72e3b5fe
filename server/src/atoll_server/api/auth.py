# SPDX-License-Identifier: Apache-2.0
"""Who may speak at all: default deny. What a key may do stands with each route, as its scope."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from atoll_server.api.errors import Unauthorized
from atoll_server.engine.keys import ApiKey, Keys

_CHALLENGE = ((b"www-authenticate", b"Bearer"),)


class Authentication:
    """Lets requests through whose bearer key is known, and those to public paths. Sets `scope["atoll.key"]`."""

    def __init__(self, app: ASGIApp, *, keys: Keys, public: Iterable[str]) -> None:
        self._app = app
        self._keys = keys
        self._public = frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in self._public:
            scope["atoll.key"] = self._authenticate(scope)
        await self._app(scope, receive, send)

    def _authenticate(self, scope: Scope) -> ApiKey:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if not given:
            raise Unauthorized(
                "no key: send the header `Authorization: Bearer <key>`", headers=_CHALLENGE
            )
        scheme, _, text = given[0].partition(b" ")
        key = (
            self._keys.verify(text.strip())
            if scheme.lower() == b"bearer" and len(given) == 1
            else None
        )
        if key is None:
            raise Unauthorized("unknown key: check the one you send", headers=_CHALLENGE)
        return key
