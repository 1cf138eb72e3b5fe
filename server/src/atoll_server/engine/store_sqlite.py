# SPDX-License-Identifier: Apache-2.0
"""The store in one SQLite file (WAL, one writer). Migrations are the numbered files of `migrations/`."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from atoll_server.engine.keys import ApiKey, parse_scopes, render_scopes
from atoll_server.engine.model import ExposedPort, Page, Sandbox, SandboxFilter, SandboxId
from atoll_server.engine.store import Store, Stored, StoreError
from atoll_server.engine.store_records import (
    parse_sandbox,
    parse_stored,
    render_host,
    render_instant,
    render_sandbox,
)

Rows = list[Any]

BUSY_TIMEOUT_SECONDS = 10.0
PRUNE_BATCH = 1000
SECRET_BYTES = 32


class SqliteStore(Store):
    """One connection, guarded by one lock: calls are short and SQLite has a single writer anyway."""

    def __init__(self, path: Path | str) -> None:
        self._lock = threading.Lock()
        try:
            self._database = _open(path)
            _migrate(self._database, path)
        except sqlite3.Error as error:
            raise StoreError(f"cannot use the database {path}: {error}") from None

    def put(self, sandbox: Sandbox, host: Mapping[str, Any]) -> None:
        row = (
            sandbox.id,
            sandbox.state.value,
            render_instant(sandbox.terminated_at),
            render_sandbox(sandbox),
            render_host(host),
        )
        with self._transaction() as database:
            (seq,) = database.execute(_PUT, row).fetchone()
            known = database.execute(
                "SELECT 1 FROM sandbox_metadata WHERE seq = ?", (seq,)
            ).fetchone()
            if not known:  # metadata never changes after creation
                database.executemany(
                    "INSERT INTO sandbox_metadata (key, value, seq) VALUES (?, ?, ?)",
                    [(key, value, seq) for key, value in sandbox.spec.metadata.items()],
                )

    def get(self, sandbox_id: SandboxId) -> Stored | None:
        rows = self._read("SELECT record, host FROM sandboxes WHERE id = ?", (sandbox_id,))
        return parse_stored(*rows[0]) if rows else None

    def list(self, wanted: SandboxFilter) -> Page:
        where, values = _conditions(wanted)
        with self._lock:
            (total,) = self._database.execute(
                f"SELECT count(*) FROM sandboxes AS s {where}", values
            ).fetchone()
            rows = self._database.execute(
                f"SELECT record FROM sandboxes AS s {where} ORDER BY s.seq DESC LIMIT ? OFFSET ?",
                (*values, wanted.limit, wanted.offset),
            ).fetchall()
        return Page(items=tuple(parse_sandbox(record) for (record,) in rows), total=total)

    def all_live(self) -> tuple[Stored, ...]:
        rows = self._read(
            "SELECT record, host FROM sandboxes WHERE state <> 'terminated' ORDER BY seq", ()
        )
        return tuple(parse_stored(*row) for row in rows)

    def prune(self, *, ended_before: datetime, keep: int) -> int:
        pruned = 0
        while True:
            # In batches, so that nobody waits long for the lock.
            with self._transaction() as database:
                batch = database.execute(
                    _PRUNE_OLD, (render_instant(ended_before), PRUNE_BATCH)
                ).rowcount
                batch += database.execute(_PRUNE_MANY, (PRUNE_BATCH, keep)).rowcount
            pruned += batch
            if batch == 0:
                return pruned

    def add_key(self, key: ApiKey) -> None:
        row = (
            key.id,
            key.digest,
            key.name,
            render_scopes(key.scopes),
            render_instant(key.created_at),
        )
        with self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO keys (id, digest, name, scopes, created_at) VALUES (?, ?, ?, ?, ?)",
                row,
            )

    def keys(self) -> tuple[ApiKey, ...]:
        rows = self._read(
            "SELECT id, digest, name, scopes, created_at FROM keys ORDER BY created_at, id", ()
        )
        return tuple(
            ApiKey(
                id=key_id,
                digest=digest,
                name=name,
                scopes=parse_scopes(scopes),
                created_at=datetime.fromisoformat(created_at),
            )
            for key_id, digest, name, scopes, created_at in rows
        )

    def remove_key(self, key_id: str) -> bool:
        with self._transaction() as database:
            return database.execute("DELETE FROM keys WHERE id = ?", (key_id,)).rowcount > 0

    def put_port(self, port: ExposedPort) -> None:
        row = (
            port.sandbox_id,
            port.port,
            port.label,
            int(port.is_private),
            render_instant(port.created_at),
        )
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO ports VALUES (?, ?, ?, ?, ?)", row)

    def ports(self) -> tuple[ExposedPort, ...]:
        rows = self._read(
            "SELECT sandbox_id, port, label, is_private, created_at FROM ports ORDER BY sandbox_id, port",
            (),
        )
        return tuple(
            ExposedPort(
                SandboxId(sandbox), port, label, bool(private), datetime.fromisoformat(created)
            )
            for sandbox, port, label, private, created in rows
        )

    def remove_port(self, sandbox_id: SandboxId, port: int) -> None:
        with self._transaction() as database:
            database.execute(
                "DELETE FROM ports WHERE sandbox_id = ? AND port = ?", (sandbox_id, port)
            )

    def remove_ports(self, sandbox_id: SandboxId) -> None:
        with self._transaction() as database:
            database.execute("DELETE FROM ports WHERE sandbox_id = ?", (sandbox_id,))

    def secret(self, name: str) -> bytes:
        with self._transaction() as database:
            database.execute(
                "INSERT OR IGNORE INTO secrets VALUES (?, ?)",
                (name, secrets.token_bytes(SECRET_BYTES)),
            )
            (secret,) = database.execute(
                "SELECT secret FROM secrets WHERE name = ?", (name,)
            ).fetchone()
        return bytes(secret)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _read(self, query: str, values: Sequence[Any]) -> Rows:
        with self._lock:
            return self._database.execute(query, values).fetchall()


_PUT = """
INSERT INTO sandboxes (id, state, terminated_at, record, host) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    state = excluded.state, terminated_at = excluded.terminated_at, record = excluded.record, host = excluded.host
RETURNING seq
"""

_PRUNE_OLD = """
DELETE FROM sandboxes WHERE seq IN (
    SELECT seq FROM sandboxes WHERE state = 'terminated' AND terminated_at < ? LIMIT ?)
"""

# The oldest are found by their end; the subtraction is how many there are too many.
_PRUNE_MANY = """
DELETE FROM sandboxes WHERE seq IN (
    SELECT seq FROM sandboxes WHERE state = 'terminated' ORDER BY terminated_at LIMIT
        max(0, min(?, (SELECT count(*) FROM sandboxes WHERE state = 'terminated') - ?)))
"""


def _open(path: Path | str) -> sqlite3.Connection:
    # Transactions are ours (`isolation_level=None`); the lock makes other threads safe.
    database = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )
    if str(path) != ":memory:":
        Path(path).chmod(0o600)
    database.execute("PRAGMA journal_mode = WAL")
    # With WAL this is safe against a crash of ours; a power cut may lose the last moments, as it does the sandboxes.
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("PRAGMA foreign_keys = ON")
    return database


def _migrate(database: sqlite3.Connection, path: Path | str) -> None:
    """Apply each migration newer than `user_version`, each in a transaction of its own."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    migrations = _migrations()
    if version > migrations[-1][0]:
        raise StoreError(
            f"the database {path} was written by a newer Atoll (version {version}); upgrade this one"
        )
    for number, script in migrations:
        if number > version:
            database.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")


def _migrations() -> list[tuple[int, str]]:
    folder = resources.files("atoll_server.engine") / "migrations"
    files = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name.split("_")[0]), (folder / name).read_text("utf-8")) for name in files]


def _conditions(wanted: SandboxFilter) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if wanted.state is not None:
        conditions.append("s.state = ?")
        values.append(wanted.state.value)
    for key, value in wanted.metadata.items():
        conditions.append("s.seq IN (SELECT seq FROM sandbox_metadata WHERE key = ? AND value = ?)")
        values += [key, value]
    return ("WHERE " + " AND ".join(conditions) if conditions else ""), values
