# SPDX-License-Identifier: Apache-2.0
"""When there is a proxy: from the first sandbox that needs it, for as long as a server or a sandbox does."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from atoll import Atoll
from atoll_server.network.egress import Egress, EgressSettings
from atoll_server.network.written import parse_policy
from tests.network.conftest import PROXY_USER, Attach
from tests.support.internet import ECHO_PORT, NAME_SERVER, SHARED, Internet
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

UNNEEDED = 0.4


@pytest.fixture
def egress_settings() -> EgressSettings:
    return EgressSettings(PROXY_USER, ((NAME_SERVER, 53),), unneeded_seconds=UNNEEDED)


@contextmanager
def proxy_of(directory: Path) -> Iterator[int]:
    """Its process, as something to wait for."""
    process = os.pidfd_open(int((directory / "proxy.pid").read_text()))
    try:
        yield process
    finally:
        os.close(process)


def has_ended(process: int, within: float) -> bool:
    return bool(select.select([process], [], [], within)[0])


def test_proxy_whose_server_is_gone_ends_by_itself(egress: Egress, directory: Path) -> None:
    with proxy_of(directory) as proxy:
        assert has_ended(proxy, within=30)


def test_proxy_goes_on_while_a_server_listens(egress: Egress, directory: Path) -> None:
    with proxy_of(directory) as proxy:
        listening = egress.listen()
        assert listening is not None
        with listening:
            assert not has_ended(proxy, within=5 * UNNEEDED)

        assert has_ended(proxy, within=30)


def test_proxy_goes_on_while_it_serves_a_sandbox(
    egress: Egress, attach: Attach, directory: Path
) -> None:
    sandbox_id, inside = attach("allow")
    with proxy_of(directory) as proxy:
        assert not has_ended(proxy, within=5 * UNNEEDED)
        assert inside.exchange(SHARED, ECHO_PORT, b"hello") == b"hello"

        egress.detach(sandbox_id)

        assert has_ended(proxy, within=30)


def test_sandbox_gets_another_proxy_after_one_that_was_not_needed(
    egress: Egress, attach: Attach, directory: Path, internet: Internet
) -> None:
    with proxy_of(directory) as proxy:
        assert has_ended(proxy, within=30)

    _, inside = internet.run_within(lambda: attach("allow"))

    assert inside.exchange(SHARED, ECHO_PORT, b"hello") == b"hello"


def test_what_a_proxy_was_told_is_known_for_as_long_as_it_lives(
    egress: Egress, attach: Attach, internet: Internet
) -> None:
    sandbox_id, _ = attach("allow")
    allow, deny = parse_policy("allow"), parse_policy("deny")
    assert egress.is_kept(sandbox_id, allow)
    assert not egress.is_kept(sandbox_id, deny)
    assert not egress.is_kept("network-test-unknown", allow)

    egress.update(sandbox_id, deny)
    assert egress.is_kept(sandbox_id, deny)
    assert not egress.is_kept(sandbox_id, allow)

    egress.stop()
    assert not egress.is_kept(sandbox_id, deny)

    internet.run_within(lambda: egress.keep({}))
    assert egress.is_kept(sandbox_id, deny)


def test_datagrams_are_counted_by_the_next_proxy_too(
    egress: Egress, attach: Attach, internet: Internet
) -> None:
    sandbox_id, inside = attach("allow")

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(b"x", (SHARED, 443))

    def denied() -> dict[str, int]:
        return egress.report(sandbox_id).statistics.denied

    inside.run(send)
    wait_until(lambda: denied() == {"protocol": 1}, what="the first")
    egress.stop()
    inside.run(send)
    internet.run_within(lambda: egress.keep({}))
    assert denied() == {}
    inside.run(send)
    wait_until(lambda: denied() == {"protocol": 1}, what="the next")


def test_what_an_earlier_run_of_the_server_has_told_is_not_taken_for_known(
    egress: Egress, attach: Attach, directory: Path, egress_settings: EgressSettings
) -> None:
    sandbox_id, _ = attach("allow")
    another = Egress(directory, egress_settings)

    another.keep({sandbox_id: parse_policy("allow")})

    assert not another.is_kept(sandbox_id, parse_policy("allow"))
    another.attach("network-test-later", parse_policy("allow"))
    assert another.is_kept("network-test-later", parse_policy("allow"))


@pytest.mark.isolated
def test_server_without_a_pool_starts_a_proxy_with_the_first_sandbox_that_needs_it(
    runtime: str,
) -> None:
    with (
        ServerProcess({"ATOLL_RUNTIME": runtime}) as server,
        Atoll(api_url=f"unix://{server.socket}", api_key=server.api_key) as client,
    ):
        client.sandboxes.create("host", network="none").terminate()
        assert list(server.run_dir.glob("*/network/proxy.pid")) == []

        with client.sandboxes.create("host", network="deny") as sandbox:
            assert sandbox.info.network is not None
            assert len(list(server.run_dir.glob("*/network/proxy.pid"))) == 1
