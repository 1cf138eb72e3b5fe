# SPDX-License-Identifier: Apache-2.0
"""Secrets that a sandbox may use and never sees."""

from __future__ import annotations

from dataclasses import dataclass, field

from ._fields import described

MAX_SECRETS = 32
MAX_SECRET_LENGTH = 32 * 1024
MAX_SECRET_HOSTS = 32


@dataclass(frozen=True)
class Secret:
    """What is put into requests to certain hosts over TLS, on their way out of the sandbox. Printed without its value.

    A host is a name (`api.example.com`), or all names below one (`*.example.com`). Without `header` the value may stand
    in any header, also in what `Authorization: Basic` says.
    """

    value: str = field(
        repr=False,
        metadata=described(
            "one line; never shown again", min_length=1, max_length=MAX_SECRET_LENGTH
        ),
    )
    hosts: list[str] = field(
        metadata=described("who may have it", min_items=1, max_items=MAX_SECRET_HOSTS)
    )
    header: str | None = field(
        default=None, metadata=described("the one header that it may stand in", max_length=128)
    )


@dataclass(frozen=True)
class SecretInfo:
    """What is told of a secret."""

    hosts: list[str]
    header: str | None = None
