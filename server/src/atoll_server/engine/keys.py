# SPDX-License-Identifier: Apache-2.0
"""API keys: how they are made, kept as digests, recognised and withdrawn, and what each may do.

A key is 190 random bits, so one round of SHA-256 is enough: there is nothing to guess from a list of words.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from atoll_server.engine.errors import Forbidden, InvalidRequest, KeyNotFound, ResourceExhausted

PREFIX = "rra_live_"
RANDOM_LENGTH = 32
KEY_LENGTH_LIMIT = 512
KEYS_LIMIT = 1000
_ALPHABET = string.ascii_letters + string.digits


class Scope(enum.Enum):
    """What a key may do."""

    CREATE = "sandbox:create"
    READ = "sandbox:read"
    DELETE = "sandbox:delete"
    PAUSE = "sandbox:pause"
    EXECUTE = "sandbox:execute"
    FILES = "sandbox:files"
    PORTS = "sandbox:ports"
    KEYS = "keys:manage"
    POOL = "pool:manage"
    METRICS = "metrics:read"
    EVENTS = "events:read"


ALL_SCOPES = frozenset(Scope)
SANDBOX_SCOPES = ALL_SCOPES - {Scope.KEYS, Scope.POOL, Scope.METRICS}
# Words for sets that grow with later versions; they are kept as words, so that a key's meaning grows with them.
_SETS = {"full": ALL_SCOPES, "sandbox:*": SANDBOX_SCOPES}
SCOPE_WORDS = (*_SETS, *(scope.value for scope in Scope))


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept. `digest` is the SHA-256 of its text, which is nowhere."""

    id: str
    digest: bytes
    created_at: datetime
    name: str = ""
    scopes: frozenset[Scope] = ALL_SCOPES
    configured: bool = False
    """Given by the server's settings, and there as long as it stands in them."""

    def __repr__(self) -> str:
        return f"ApiKey(id={self.id!r}, name={self.name!r})"


class KeyStore(Protocol):
    """Where keys survive a restart: what is needed of the store."""

    def add_key(self, key: ApiKey) -> None: ...

    def remove_key(self, key_id: str) -> bool: ...


class Keys:
    """The keys that open this server. Recognises a key without reading the store; without one, keys end with us."""

    def __init__(self, keys: Iterable[ApiKey] = (), store: KeyStore | None = None) -> None:
        self._by_digest = {key.digest: key for key in keys}
        self._store = store

    def verify(self, text: bytes) -> ApiKey | None:
        """The key of this text, or None.

        What is looked up is the digest: how long that takes tells nothing about any key, because nobody can choose
        a text whose digest begins as they please. The comparison that decides takes the same time for every text.
        """
        if len(text) > KEY_LENGTH_LIMIT:
            return None
        digest = hashlib.sha256(text).digest()
        key = self._by_digest.get(digest)
        if key is None or not hmac.compare_digest(key.digest, digest):
            return None
        return key

    def list(self) -> tuple[ApiKey, ...]:
        """All keys: those of the settings, then the others, oldest first."""
        return tuple(
            sorted(
                self._by_digest.values(),
                key=lambda key: (not key.configured, key.created_at, key.id),
            )
        )

    def can_be_managed(self) -> bool:
        """Whether any key may make and remove others."""
        return any(Scope.KEYS in key.scopes for key in self._by_digest.values())

    def make(
        self, *, name: str = "", scopes: frozenset[Scope] = ALL_SCOPES, now: datetime
    ) -> tuple[ApiKey, str]:
        """A new key and its text, which is not to be had again."""
        text = generate_key_text()
        key = make_key(text, created_at=now, name=name, scopes=scopes)
        if self._store is not None:
            self._store.add_key(key)
        self._by_digest[key.digest] = key
        return key, text

    def make_for(
        self, maker: ApiKey, *, name: str, scopes: frozenset[Scope], now: datetime
    ) -> tuple[ApiKey, str]:
        """The same, asked for by who has the key `maker`: raises `Forbidden` for more than that may do itself."""
        beyond = scopes - maker.scopes
        if beyond:
            raise Forbidden(
                f"a key cannot make one that may do more than itself: it lacks {render_scopes(beyond)}"
            )
        if len(self._by_digest) >= KEYS_LIMIT:
            raise ResourceExhausted(f"there are {KEYS_LIMIT} keys: remove some that nobody uses")
        return self.make(name=name, scopes=scopes, now=now)

    def remove(self, key_id: str) -> None:
        """Withdraw a key: what is asked with it from now on is refused. The last that manages keys stays."""
        key = next((key for key in self._by_digest.values() if key.id == key_id), None)
        if key is None:
            raise KeyNotFound("no such key: `GET /v1/keys` lists them all")
        if key.configured:
            raise InvalidRequest(
                f"{key_id} is given by the server's settings: take it out there, then restart the server"
            )
        left = {digest: other for digest, other in self._by_digest.items() if other is not key}
        if not any(Scope.KEYS in other.scopes for other in left.values()):
            raise InvalidRequest(
                f"{key_id} is the last key with the scope {Scope.KEYS.value}: make another such key first"
            )
        if self._store is not None:
            self._store.remove_key(key_id)
        self._by_digest = left


def generate_key_text() -> str:
    """A new key, to be shown once."""
    return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_LENGTH))


def make_key(
    text: str,
    *,
    created_at: datetime,
    name: str = "",
    scopes: frozenset[Scope] = ALL_SCOPES,
    configured: bool = False,
) -> ApiKey:
    """The record of a key's text. Its id is the beginning of the digest, which reveals nothing."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return ApiKey(f"key_{digest[:6].hex()}", digest, created_at, name, scopes, configured)


def parse_scopes(text: str) -> frozenset[Scope]:
    """Scopes as written: separated by spaces or commas; `sandbox:*` and `full` stand for many."""
    words = text.replace(",", " ").split()
    return frozenset().union(*(_SETS.get(word) or {Scope(word)} for word in words))


def render_scopes(scopes: frozenset[Scope]) -> str:
    """Scopes as `parse_scopes` reads them, in the fewest words."""
    for word, members in _SETS.items():
        if scopes == members:
            return word
    return " ".join(sorted(scope.value for scope in scopes))
