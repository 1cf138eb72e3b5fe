# SPDX-License-Identifier: Apache-2.0
"""What a sandbox's own authority can vouch for, tried on a handshake in memory."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest

from atoll_server.network.authority import Leaves, make_authority
from atoll_server.network.sealed import rehearse
from atoll_server.network.tls import (
    ClientMachine,
    ServerMachine,
    TlsFailed,
    client_context,
)

AUTHORITY = make_authority(["api.example", "*.w.example"], datetime.now(UTC))


def shake(leaves: Leaves, name: str, trust: ssl.SSLContext) -> tuple[ClientMachine, ServerMachine]:
    client, server = ClientMachine(trust, name), ServerMachine(leaves.context(name))
    for _ in range(4):
        client.shake()
        pass_on(client, server)
        server.shake()
        pass_on(server, client)
    return client, server


def pass_on(source: ClientMachine | ServerMachine, target: ClientMachine | ServerMachine) -> None:
    if given := source.give():
        target.take(given)


def strict_trust() -> ssl.SSLContext:
    trust = client_context("")
    trust.verify_flags |= ssl.VERIFY_X509_STRICT
    trust.load_verify_locations(cadata=AUTHORITY.certificate)
    return trust


@pytest.mark.parametrize("name", ["api.example", "a.w.example", "a" * 63 + ".w.example"])
def test_hosts_of_secrets_are_vouched_for(name: str) -> None:
    client, server = shake(Leaves(AUTHORITY), name, strict_trust())

    client.write(b"a word")
    pass_on(client, server)
    assert (server.read(), server.read()) == (b"a word", None)
    client.end()
    pass_on(client, server)
    assert server.read() == b""


def test_nobody_else_is_vouched_for() -> None:
    with pytest.raises(TlsFailed, match="certificate is not good: permitted subtree violation"):
        shake(Leaves(AUTHORITY), "bank.example", strict_trust())


def test_nobody_is_trusted_without_a_bundle() -> None:
    with pytest.raises(TlsFailed, match="certificate is not good"):
        shake(Leaves(AUTHORITY), "api.example", client_context(""))


def test_end_without_a_word_is_a_failure() -> None:
    client, server = shake(Leaves(AUTHORITY), "api.example", strict_trust())

    for machine in (client, server):
        machine.take(b"")
        with pytest.raises(TlsFailed):
            machine.read()


def test_certificates_are_kept_for_so_many_names() -> None:
    leaves = Leaves(AUTHORITY, limit=2)
    first = leaves.context("a.w.example")

    assert leaves.context("a.w.example") is first
    leaves.context("b.w.example")
    leaves.context("c.w.example")
    assert leaves.context("a.w.example") is not first


def test_key_is_not_printed() -> None:
    assert "PRIVATE" not in repr(AUTHORITY)


def test_rehearsal_goes_well() -> None:
    rehearse()
