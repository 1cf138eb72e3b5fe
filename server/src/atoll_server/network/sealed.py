# SPDX-License-Identifier: Apache-2.0
"""A sandbox's secrets as its gate has them: the keyring, and what it takes to be the hosts that they are for."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from atoll_server.network.authority import Authority, Leaves, make_authority
from atoll_server.network.secrets import Keyring
from atoll_server.network.tls import ClientMachine, ServerMachine, client_context

_STAGE: Final = "rehearsal.invalid"
# More than any handshake takes.
_FLIGHTS: Final = 4


@dataclass(frozen=True)
class Sealed:
    """`trust` is how the world's servers are met."""

    keyring: Keyring
    leaves: Leaves
    trust: ssl.SSLContext


def rehearse() -> None:
    """Shake hands once, both parts played here: what is first loaded then cannot be, once there are no files."""
    authority = make_authority((_STAGE,), datetime.now(UTC))
    trust = client_context("")
    trust.load_verify_locations(cadata=authority.certificate)
    server = ServerMachine(Leaves(authority).context(_STAGE))
    client = ClientMachine(trust, _STAGE)
    for _ in range(_FLIGHTS):
        client.shake()
        server.shake()
        _exchange(client, server)
    client.write(b"a word")
    _exchange(client, server)
    assert server.read() == b"a word", "TLS that was made here is not understood here"


def _exchange(client: ClientMachine, server: ServerMachine) -> None:
    for source, target in ((client, server), (server, client)):
        if given := source.give():
            target.take(given)


def seal(keyring: Keyring, trust: ssl.SSLContext) -> Sealed:
    """The secrets of one sandbox, ready to be used."""
    leaves = Leaves(Authority(keyring.certificate, keyring.key))
    return Sealed(keyring, leaves, trust)
