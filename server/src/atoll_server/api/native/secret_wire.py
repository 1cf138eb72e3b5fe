# SPDX-License-Identifier: Apache-2.0
"""Secrets on the wire and in the engine. Values go one way only, and into no error."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.models import CreateSandbox, SecretInfo
from atoll_server.engine.errors import InvalidConfig
from atoll_server.network import secrets
from atoll_server.network.policy import Default, Policy
from atoll_server.network.secrets import InvalidSecret, Secret


def parse_secrets(body: CreateSandbox, network: Policy) -> tuple[Secret, ...]:
    """The secrets of a sandbox that is to be under this policy."""
    if body.secrets and network.default is Default.NONE:
        raise InvalidConfig(
            "`secrets` are of use with a network alone, and this sandbox is to have none: give `network` a policy"
        )
    both = sorted(body.secrets.keys() & body.env.keys())
    if both:
        raise InvalidConfig(f"{ascii(both[0])[:100]} is in `env` and in `secrets`: leave one out")
    try:
        return secrets.parse_secrets(body.secrets)
    except InvalidSecret as error:
        raise InvalidConfig(f"`secrets`: {error}") from None


def render_secrets(those: Iterable[Secret]) -> dict[str, SecretInfo]:
    """What may be told of them, by name."""
    return {it.name: SecretInfo(list(it.hosts), it.header) for it in those}
