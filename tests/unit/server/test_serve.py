# SPDX-License-Identifier: Apache-2.0
import os
import socket
import stat
from pathlib import Path

import pytest

from atoll_server import serve
from atoll_server.clock import ManualClock
from atoll_server.engine.keys import ALL_SCOPES, Scope, make_key
from atoll_server.engine.store_sqlite import SqliteStore
from atoll_server.listeners import CannotListen, listening
from atoll_server.serve import CannotServe
from atoll_server.settings import Settings


def settings(tmp_path: Path, **fields: object) -> Settings:
    return Settings(state_dir=tmp_path / "state", **fields)  # type: ignore[arg-type] # whatever the test gives


def test_second_server_on_a_state_directory_is_told_who_has_it(tmp_path: Path) -> None:
    with serve._locked(tmp_path), pytest.raises(CannotServe) as raised, serve._locked(tmp_path):
        pass

    assert f"another server (pid {os.getpid()}) uses {tmp_path}" in str(raised.value)
    with serve._locked(tmp_path):
        pass


def test_state_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(CannotServe, match="cannot use the state directory"),
        serve._locked(tmp_path / "file"),
    ):
        pass


def test_key_is_made_once_and_kept_hashed(tmp_path: Path) -> None:
    store = SqliteStore(":memory:")

    first, text = serve._load_keys(settings(tmp_path), store, ManualClock())
    second, again = serve._load_keys(settings(tmp_path), store, ManualClock())

    assert text is not None
    assert again is None
    assert first.verify(text.encode()) == second.verify(text.encode()) == store.keys()[0]
    store.close()


def test_configured_key_is_not_kept(tmp_path: Path) -> None:
    store = SqliteStore(":memory:")

    keys, text = serve._load_keys(settings(tmp_path, api_keys=("mine",)), store, ManualClock())

    assert text is None
    assert keys.verify(b"mine") is not None
    assert store.keys() == ()
    store.close()


def test_key_is_made_where_none_could_manage_the_others(tmp_path: Path) -> None:
    store = SqliteStore(":memory:")
    reader = make_key("reader", created_at=ManualClock().now(), scopes=frozenset({Scope.READ}))
    store.add_key(reader)

    keys, text = serve._load_keys(settings(tmp_path), store, ManualClock())

    assert text is not None
    owner = keys.verify(text.encode())
    assert owner is not None
    assert owner.scopes == ALL_SCOPES
    assert keys.verify(b"reader") == reader
    assert len(store.keys()) == 2
    store.close()


def test_private_server_has_one_key_of_its_own(tmp_path: Path) -> None:
    store = SqliteStore(":memory:")

    keys, text = serve._load_keys(
        settings(tmp_path, private=True, api_keys=("mine",)), store, ManualClock()
    )

    assert text is not None
    assert keys.verify(text.encode()) is not None
    assert keys.verify(b"mine") is None
    assert store.keys() == ()
    store.close()


def test_unix_socket_is_for_its_owner_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "s"

    with listening(settings(tmp_path, socket=path, private=True)) as listeners:
        modes = stat.S_IMODE(path.stat().st_mode)
        count = len(listeners)

    assert (modes, count) == (0o600, 1)
    assert not path.exists()


def test_socket_left_by_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    with listening(settings(tmp_path, socket=path, private=True)) as listeners:
        assert len(listeners) == 1


def test_socket_of_a_living_server_is_not_taken(tmp_path: Path) -> None:
    wanted = settings(tmp_path, socket=tmp_path / "s", private=True)

    with listening(wanted), pytest.raises(CannotListen, match="another server listens"):
        listening(wanted).__enter__()

    assert not (tmp_path / "s").exists()


def test_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = settings(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(CannotListen, match="cannot listen on 127.0.0.1"):
            listening(wanted).__enter__()
