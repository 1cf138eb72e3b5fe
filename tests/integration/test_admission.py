# SPDX-License-Identifier: Apache-2.0
"""What the host cannot give is refused at once, and given as soon as there is room."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from atoll import Atoll, ResourceExhausted, Sandbox
from tests.support.api import Api
from tests.support.cleanliness import assert_host_is_clean
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.isolated

MOST = 4


def serve(**settings: str) -> Iterator[Atoll]:
    with ServerProcess(
        {f"ATOLL_{name.upper()}": value for name, value in settings.items()}
    ) as server:
        with Atoll(server.url, server.api_key, max_retries=0) as client:
            yield client
        assert_host_is_clean(Api(server))


@pytest.fixture
def few(runtime: str) -> Iterator[Atoll]:
    """A server that may hold few sandboxes, and holds one of them ready."""
    yield from serve(max_sandboxes=str(MOST), runtime=runtime, pool_size="1")


@pytest.fixture
def single(runtime: str) -> Iterator[Atoll]:
    """A server that may hold one sandbox, and holds it ready."""
    yield from serve(max_sandboxes="1", runtime=runtime, pool_size="1")


@pytest.fixture
def full() -> Iterator[Atoll]:
    """A server on a host that has no memory to give."""
    yield from serve(memory_reserve_mb=str(1 << 30), pool_size="1")


def test_of_many_creations_at_once_exactly_as_many_succeed_as_may(few: Atoll) -> None:
    """Attack 77."""

    def create(_: int) -> Sandbox | ResourceExhausted:
        try:
            return few.sandboxes.create("host")
        except ResourceExhausted as error:
            return error

    with ThreadPoolExecutor(20) as threads:
        outcomes = list(threads.map(create, range(20)))

    made = [outcome for outcome in outcomes if isinstance(outcome, Sandbox)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, ResourceExhausted)]
    assert (len(made), len(refused)) == (MOST, 20 - MOST)
    assert all(error.retryable for error in refused)
    assert few.sandboxes.list().total == MOST
    made.pop().terminate()
    made.append(few.sandboxes.create("host"))
    with pytest.raises(ResourceExhausted, match="4 sandboxes"):
        few.sandboxes.create("host")
    for sandbox in made:
        sandbox.terminate()


def test_a_server_that_may_hold_one_sandbox_holds_it_ready(single: Atoll) -> None:
    wait_until(lambda: single.pool().shapes[0].idle == 1, what="a full pool")

    with single.sandboxes.create("host") as sandbox:
        assert sandbox.exec("echo here").stdout == "here\n"

    assert single.pool().shapes[0].hits == 1


def test_without_memory_nothing_is_created_and_what_is_missing_is_said(full: Atoll) -> None:
    with pytest.raises(ResourceExhausted, match="of its memory are free") as refused:
        full.sandboxes.create("host")

    assert refused.value.retryable
    assert full.sandboxes.list().total == 0
    assert full.pool().shapes[0].idle == 0
