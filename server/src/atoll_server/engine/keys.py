# SPDX-License-Identifier: Apache-2.0
"""API keys: how they are made, kept as digests, and recognised.

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

PREFIX = "rra_live_"
RANDOM_LENGTH = 32
KEY_LENGTH_LIMIT = 512
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


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept. `digest` is the SHA-256 of its text, which is nowhere."""

    id: str
    digest: bytes
    created_at: datetime
    name: str = ""
    scopes: frozenset[Scope] = ALL_SCOPES

    def __repr__(self) -> str:
        return f"ApiKey(id={self.id!r}, name={self.name!r})"


class Keys:
    """The keys that open this server. Recognises a key without reading the store."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._by_digest = {key.digest: key for key in keys}

    def __len__(self) -> int:
        return len(self._by_digest)

    def add(self, key: ApiKey) -> None:
        self._by_digest[key.digest] = key

    def remove(self, key_id: str) -> None:
        self._by_digest = {
            digest: key for digest, key in self._by_digest.items() if key.id != key_id
        }

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


def generate_key_text() -> str:
    """A new key, to be shown once."""
    return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_LENGTH))


def make_key(
    text: str, *, created_at: datetime, name: str = "", scopes: frozenset[Scope] = ALL_SCOPES
) -> ApiKey:
    """The record of a key's text. Its id is the beginning of the digest, which reveals nothing."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return ApiKey(
        id=f"key_{digest[:6].hex()}", digest=digest, created_at=created_at, name=name, scopes=scopes
    )


def parse_scopes(text: str) -> frozenset[Scope]:
    """Scopes as written: separated by spaces or commas; `sandbox:*` and `full` stand for all."""
    words = text.replace(",", " ").split()
    if "sandbox:*" in words or "full" in words:
        return ALL_SCOPES
    return frozenset(Scope(word) for word in words)


def render_scopes(scopes: frozenset[Scope]) -> str:
    return " ".join(sorted(scope.value for scope in scopes))
