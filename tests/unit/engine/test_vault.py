# SPDX-License-Identifier: Apache-2.0
"""What is sealed opens for the same sandbox and the same key alone."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from atoll_server.engine.vault import CannotOpen, Vault
from atoll_server.network.secrets import Keyring, Secret

KEYRING = Keyring(
    (Secret("KEY", "placeholder", ("a.test", "*.b.test"), "X", "the-value"),), "certificate", "key"
)


def test_what_was_sealed_opens_after_a_restart(tmp_path: Path) -> None:
    sealed = Vault(tmp_path / "key").seal("sb_1", KEYRING)

    assert Vault(tmp_path / "key").open("sb_1", sealed) == KEYRING
    assert b"the-value" not in base64.b64decode(sealed)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_it_opens_for_nobody_else(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "key")
    sealed = vault.seal("sb_1", KEYRING)
    changed = base64.b64encode(base64.b64decode(sealed)[:-1] + b"x").decode()

    for sandbox_id, text in (("sb_2", sealed), ("sb_1", changed), ("sb_1", "!"), ("sb_1", "")):
        with pytest.raises(CannotOpen):
            vault.open(sandbox_id, text)
    with pytest.raises(CannotOpen):
        Vault(tmp_path / "another").open("sb_1", sealed)
