# SPDX-License-Identifier: Apache-2.0
import contextlib
import sqlite3
import stat
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pytest

from atoll_server.engine.keys import ALL_SCOPES
from atoll_server.engine.model import (
    Limits,
    RuntimeKind,
    Sandbox,
    SandboxId,
    SandboxSpec,
    State,
)
from atoll_server.engine.store import StoreError
from atoll_server.engine.store_sqlite import SqliteStore
from atoll_server.network.secrets import Secret


def version(path: Path) -> int:
    with sqlite3.connect(path) as database:
        (number,) = database.execute("PRAGMA user_version").fetchone()
    database.close()
    return int(number)


def test_database_is_migrated_once(tmp_path: Path) -> None:
    path = tmp_path / "atoll.db"
    SqliteStore(path).close()
    first = version(path)

    SqliteStore(path).close()

    assert first == version(path) > 0


def test_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "atoll.db")

    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    store.close()

    assert modes == {0o600}


def test_key_of_the_first_version_may_do_what_has_been_invented_since(tmp_path: Path) -> None:
    path = tmp_path / "atoll.db"
    script = resources.files("atoll_server.engine") / "migrations" / "0001_start.sql"
    scopes = "sandbox:create sandbox:delete sandbox:execute sandbox:files"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(f"{script.read_text()} PRAGMA user_version = 1;")
        database.execute(
            "INSERT INTO keys VALUES ('key_1', x'00', 'owner', ?, '2030-01-01T00:00:00+00:00')",
            (scopes,),
        )
        database.commit()

    with contextlib.closing(SqliteStore(path)) as store:
        (key,) = store.keys()

    assert key.scopes == ALL_SCOPES


def test_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "atoll.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 999")
    database.close()

    with pytest.raises(StoreError, match="newer Atoll"):
        SqliteStore(path)


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "atoll.db"
    path.write_bytes(b"no database " * 1000)

    with pytest.raises(StoreError, match="cannot use the database"):
        SqliteStore(path)


def test_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot use the database"):
        SqliteStore(tmp_path / "none" / "atoll.db")


def test_record_has_all_of_a_secret_but_its_value(tmp_path: Path) -> None:
    secret = Secret("KEY", "placeholder", ("a.test", "*.b.test"), "X-Key", "the-value")
    spec = SandboxSpec("host", Limits(1, 64, 64), {}, "/", 1.0, 1.0, {}, secrets=(secret,))
    sandbox = Sandbox(
        SandboxId("sb_1"), State.RUNNING, spec, RuntimeKind.CONTAINER, "", datetime.now(UTC)
    )
    store = SqliteStore(tmp_path / "db")

    store.put(sandbox, {})

    found = store.get(sandbox.id)
    assert found is not None
    assert found.sandbox.spec.secrets == (secret.without_value(),)
    store.close()
    assert not [path for path in tmp_path.iterdir() if b"the-value" in path.read_bytes()]
