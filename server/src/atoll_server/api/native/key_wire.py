# SPDX-License-Identifier: Apache-2.0
"""Between the wire's records of API keys and the engine's."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.models import KeyInfo, KeyList, KeySource, Pagination
from atoll_server.api.native.values import render_instant
from atoll_server.engine import keys
from atoll_server.engine.errors import InvalidRequest
from atoll_server.engine.keys import ApiKey


def parse_scopes(words: Sequence[str]) -> frozenset[keys.Scope]:
    unknown = [word for word in words if word not in keys.SCOPE_WORDS]
    if unknown:
        known = ", ".join(keys.SCOPE_WORDS)
        raise InvalidRequest(f"`scopes` must be of {known}; got `{unknown[0][:64]}`")
    return keys.parse_scopes(" ".join(words))


def render_key(key: ApiKey, text: str | None = None) -> KeyInfo:
    return KeyInfo(
        id=key.id,
        name=key.name,
        scopes=keys.render_scopes(key.scopes).split(),
        source=KeySource.SETTINGS if key.configured else KeySource.CREATED,
        created_at=None if key.configured else render_instant(key.created_at),
        key=text,
    )


def render_keys(found: Sequence[ApiKey]) -> KeyList:
    pagination = Pagination(total=len(found), limit=keys.KEYS_LIMIT, offset=0, has_more=False)
    return KeyList(data=[render_key(key) for key in found], pagination=pagination)
