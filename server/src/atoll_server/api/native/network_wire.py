# SPDX-License-Identifier: Apache-2.0
"""What the wire says of a sandbox's network besides its policy, as the engine has it."""

from __future__ import annotations

from atoll.models import Network
from atoll_server.engine.errors import InvalidConfig, InvalidPort
from atoll_server.engine.exposures import check_exposable


def parse_ingress(body: Network | None) -> tuple[int, ...] | None:
    """The ports that may be exposed, None for all."""
    if body is None or body.ingress is None:
        return None
    try:
        for port in body.ingress.allow_ports:
            check_exposable(port)
    except InvalidPort as error:
        raise InvalidConfig(f"`network.ingress.allowPorts`: {error}") from None
    return tuple(sorted(set(body.ingress.allow_ports)))
