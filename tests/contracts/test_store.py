# SPDX-License-Identifier: Apache-2.0
"""What a store promises, run against every implementation."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atoll_server.engine.keys import ALL_SCOPES, SANDBOX_SCOPES, Scope, make_key
from atoll_server.engine.model import (
    Cause,
    ExposedPort,
    Limits,
    RuntimeKind,
    Sandbox,
    SandboxFilter,
    SandboxId,
    SandboxSpec,
    State,
)
from atoll_server.engine.store import Store
from atoll_server.engine.store_sqlite import SqliteStore
from atoll_server.network.written import parse_policy

START = datetime(2030, 1, 1, 12, 30, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=["sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = {"sqlite": lambda: SqliteStore(tmp_path / "atoll.db")}[request.param]()
    yield made
    made.close()


def sandbox(
    number: int,
    *,
    state: State = State.RUNNING,
    metadata: dict[str, str] | None = None,
    ended_at: datetime | None = None,
) -> Sandbox:
    return Sandbox(
        id=SandboxId(f"sb_{number:010d}"),
        state=state,
        spec=SandboxSpec(
            image="host",
            limits=Limits(cpu=2, memory_mb=4096, disk_mb=10240),
            env={"A": "b\u2028"},
            workdir="/workspace",
            lifetime=300.0,
            idle_timeout=120.5,
            metadata=metadata or {},
            runtime=None,
            network=parse_policy({"allow": ["*.a.test:22"]}),
            exposable=(3000, 8080),
        ),
        runtime=RuntimeKind.CONTAINER,
        isolation="user namespace",
        created_at=START,
        terminated_at=ended_at,
    )


def ids(store: Store, **wanted: object) -> list[str]:
    page = store.list(SandboxFilter(**wanted))  # type: ignore[arg-type] # whatever the test gives
    return [str(item.id) for item in page.items]


def test_what_is_put_is_got(store: Store) -> None:
    plain = sandbox(1)
    full = dataclasses.replace(
        sandbox(2, metadata={"a": "b"}),
        state=State.TERMINATED,
        spec=dataclasses.replace(sandbox(2).spec, runtime=RuntimeKind.GVISOR),
        started_at=START,
        paused_at=START + timedelta(microseconds=1),
        terminated_at=START + timedelta(days=1),
        cause=Cause.TIMEOUT,
        detail="why",
    )

    store.put(plain, {})
    store.put(full, {"run_dir": "/run/x", "ids": [100000, 65536], "cgroup": None})

    for expected, host in (
        (plain, {}),
        (full, {"run_dir": "/run/x", "ids": [100000, 65536], "cgroup": None}),
    ):
        stored = store.get(expected.id)
        assert stored is not None
        assert (stored.sandbox, stored.host) == (expected, host)


def test_unknown_sandbox_is_none(store: Store) -> None:
    assert store.get(SandboxId("sb_none")) is None


def test_put_again_replaces_and_keeps_the_place(store: Store) -> None:
    store.put(sandbox(1), {"n": 1})
    store.put(sandbox(2), {})

    store.put(sandbox(1, state=State.PAUSED), {"n": 2})

    stored = store.get(sandbox(1).id)
    assert stored is not None
    assert (stored.sandbox.state, stored.host) == (State.PAUSED, {"n": 2})
    assert ids(store) == [sandbox(2).id, sandbox(1).id]


def test_list_pages_newest_first(store: Store) -> None:
    for number in range(5):
        store.put(sandbox(number), {})

    page = store.list(SandboxFilter(limit=2, offset=1))

    assert [item.id for item in page.items] == [sandbox(3).id, sandbox(2).id]
    assert page.total == 5
    assert store.list(SandboxFilter(offset=5)).items == ()


def test_list_filters_by_state_and_every_label(store: Store) -> None:
    store.put(sandbox(1, metadata={"team": "a", "env": "prod"}), {})
    store.put(sandbox(2, metadata={"team": "a"}), {})
    store.put(sandbox(3, metadata={"team": "a", "env": "prod"}, state=State.TERMINATED), {})
    store.put(sandbox(4, metadata={"team": "A"}), {})

    assert ids(store, metadata={"team": "a"}) == [sandbox(3).id, sandbox(2).id, sandbox(1).id]
    assert ids(store, metadata={"team": "a", "env": "prod"}) == [sandbox(3).id, sandbox(1).id]
    assert ids(store, metadata={"team": "a", "env": "prod"}, state=State.RUNNING) == [sandbox(1).id]
    assert ids(store, metadata={"prod": "env"}) == []
    assert ids(store, metadata={"team": "a' OR '1'='1"}) == []
    assert store.list(SandboxFilter(state=State.RUNNING, limit=1)).total == 3


def test_label_may_be_any_text(store: Store) -> None:
    odd = {"": "", "a]b": "'\"%_\u2028", "k" * 1000: "v" * 1000}
    store.put(sandbox(1, metadata=odd), {})

    assert ids(store, metadata=odd) == [sandbox(1).id]


def test_all_live_leaves_out_what_has_ended(store: Store) -> None:
    for number, state in enumerate(State):
        store.put(sandbox(number, state=state), {"n": number})

    live = store.all_live()

    assert [item.sandbox.state for item in live] == [s for s in State if s is not State.TERMINATED]
    assert [item.host for item in live] == [{"n": n} for n in range(len(live))]


def test_prune_forgets_what_ended_long_ago(store: Store) -> None:
    for number in range(10):
        ended = START + timedelta(days=number)
        store.put(sandbox(number, state=State.TERMINATED, ended_at=ended, metadata={"a": "b"}), {})
    store.put(sandbox(99), {})

    pruned = store.prune(ended_before=START + timedelta(days=4), keep=100)

    assert pruned == 4
    assert len(ids(store)) == 7
    assert len(ids(store, metadata={"a": "b"})) == 6
    assert store.get(sandbox(3).id) is None


def test_prune_keeps_the_latest_ended_of_too_many(store: Store) -> None:
    for number in range(10):
        ended = START + timedelta(days=number)
        store.put(sandbox(number, state=State.TERMINATED, ended_at=ended), {})
    store.put(sandbox(99), {})

    assert store.prune(ended_before=START, keep=3) == 7

    assert ids(store) == [sandbox(number).id for number in (99, 9, 8, 7)]


def test_keys_are_kept_without_their_text(store: Store, tmp_path: Path) -> None:
    text = "rra_live_the_text_of_the_key"
    key = make_key(text, created_at=START, name="mine", scopes=frozenset({Scope.READ}))

    store.add_key(key)
    store.add_key(key)

    assert store.keys() == (key,)
    assert all(text.encode() not in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize("scopes", [ALL_SCOPES, SANDBOX_SCOPES, frozenset({Scope.KEYS})])
def test_keys_keep_their_scopes(store: Store, scopes: frozenset[Scope]) -> None:
    store.add_key(make_key("text", created_at=START, scopes=scopes))

    assert store.keys()[0].scopes == scopes


def test_removed_key_is_gone(store: Store) -> None:
    key = make_key("text", created_at=START)
    store.add_key(key)

    assert store.remove_key(key.id)
    assert not store.remove_key(key.id)
    assert store.keys() == ()


def test_threads_may_write_at_once(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(sandbox(number), {}), range(200)))

    assert store.list(SandboxFilter()).total == 200


def test_closing_may_be_repeated(store: Store) -> None:
    store.close()
    store.close()


def test_exposed_ports_are_kept_until_they_are_removed(store: Store) -> None:
    one, other = SandboxId("sb_1"), SandboxId("sb_2")
    ports = [
        ExposedPort(one, 3000, "a", False, START),
        ExposedPort(one, 3001, "b", True, START),
        ExposedPort(other, 3000, "c", False, START),
    ]
    for port in reversed(ports):
        store.put_port(port)
    assert store.ports() == tuple(ports)

    private = dataclasses.replace(ports[0], is_private=True)
    store.put_port(private)
    assert store.ports() == (private, *ports[1:])

    store.remove_port(one, 3001)
    store.remove_port(one, 9999)
    assert store.ports() == (private, ports[2])

    store.remove_ports(one)
    assert store.ports() == (ports[2],)


def test_secret_is_made_once(store: Store) -> None:
    first, other = store.secret("first"), store.secret("other")

    assert store.secret("first") == first
    assert len(first) == 32
    assert first != other
