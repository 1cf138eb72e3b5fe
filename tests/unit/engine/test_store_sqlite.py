# SPDX-License-Identifier: Apache-2.0
import contextlib
import sqlite3
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from atoll_server.engine.keys import ALL_SCOPES
from atoll_server.engine.model import (
    Limits,
    RuntimeKind,
    Sandbox,
    SandboxFilter,
    SandboxId,
    SandboxSpec,
    State,
)
from atoll_server.engine.store import StoreError
from atoll_server.engine.store_sqlite import SqliteStore
from atoll_server.network.secrets import Secret


class Effort:
    """Counts what the connections that are opened from now on have to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._steps = 0
        connect = sqlite3.connect

        def connect_counted(*given: Any, **named: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*given, **named)
            connection.set_progress_handler(self._count, 1)
            return connection

        monkeypatch.setattr(sqlite3, "connect", connect_counted)

    def of(self, call: Callable[[], object]) -> int:
        """How many steps it takes."""
        before = self._steps
        call()
        return self._steps - before

    def _count(self) -> None:
        self._steps += 1


def sandbox(number: int, state: State, metadata: dict[str, str]) -> Sandbox:
    now = datetime.now(UTC)
    spec = SandboxSpec("host", Limits(1, 64, 64), {}, "/", 1.0, 1.0, metadata)
    ended = now if state is State.TERMINATED else None
    return Sandbox(
        SandboxId(f"sb_{number}"), state, spec, RuntimeKind.CONTAINER, "", now, terminated_at=ended
    )


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
    made = Sandbox(
        SandboxId("sb_1"), State.RUNNING, spec, RuntimeKind.CONTAINER, "", datetime.now(UTC)
    )
    store = SqliteStore(tmp_path / "db")

    store.put(made, {})

    found = store.get(made.id)
    assert found is not None
    assert found.sandbox.spec.secrets == (secret.without_value(),)
    store.close()
    assert not [path for path in tmp_path.iterdir() if b"the-value" in path.read_bytes()]


def test_many_ended_sandboxes_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps of SQLite's own machine, which are the same on every host, however busy."""
    effort = Effort(monkeypatch)
    with contextlib.closing(SqliteStore(tmp_path / "atoll.db")) as store:
        store.put(sandbox(20_000, State.RUNNING, {"all": "same"}), {})
        spent: dict[int, dict[str, int]] = {}
        for number in range(2_000):
            labels = {"n": str(number), "all": "same"}
            store.put(sandbox(number, State.TERMINATED, labels), {})
            if number in (199, 1_999):
                spent[number] = {
                    "get": effort.of(lambda: store.get(SandboxId("sb_5"))),
                    "first page": effort.of(lambda: store.list(SandboxFilter(limit=100))),
                    "state": effort.of(lambda: store.list(SandboxFilter(state=State.RUNNING))),
                    "label": effort.of(lambda: store.list(SandboxFilter(metadata={"n": "77"}))),
                    "all live": effort.of(store.all_live),
                }

    assert all(spent[199].values())
    assert spent[1_999] == spent[199]
