# SPDX-License-Identifier: Apache-2.0
"""Keeps secrets over a restart of the server: sealed in the store, by a key that is in the run directory alone.

That directory is memory on most hosts, and lasts no longer than sandboxes do: what is on a disk opens nothing.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import threading
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from atoll_server.network.secrets import Keyring

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class CannotOpen(Exception):
    """What was sealed is of another server's life, or was changed."""


class Vault:
    """Every method blocks. The key is made when it is first needed."""

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file
        self._lock = threading.Lock()

    def seal(self, sandbox_id: str, keyring: Keyring) -> str:
        """Text that only `open` can read, and only for the same sandbox."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = msgspec.json.encode(keyring)
        sealed = AESGCM(self._key()).encrypt(nonce, plain, sandbox_id.encode())
        return base64.b64encode(nonce + sealed).decode("ascii")

    def open(self, sandbox_id: str, sealed: str) -> Keyring:
        """What was sealed. Raises `CannotOpen`."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            nonce, rest = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            plain = AESGCM(self._key()).decrypt(nonce, rest, sandbox_id.encode())
            return msgspec.json.decode(plain, type=Keyring)
        except (binascii.Error, ValueError, InvalidTag, msgspec.MsgspecError):
            raise CannotOpen(
                f"the secrets of {sandbox_id} are sealed with a key that is gone"
            ) from None

    def _key(self) -> bytes:
        with self._lock:
            if not self._key_file.exists():
                self._make_key()
            return self._key_file.read_bytes()

    def _make_key(self) -> None:
        """Whole or not at all, and never another's to read."""
        made = self._key_file.with_suffix(".new")
        with contextlib.suppress(FileNotFoundError):
            made.unlink()
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        made.rename(self._key_file)
