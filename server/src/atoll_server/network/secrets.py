# SPDX-License-Identifier: Apache-2.0
"""What a client wants kept from its sandbox: read strictly, and known inside by a placeholder that is worth nothing."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from atoll_server.network.names import parse_written_name

MAX_SECRETS: Final = 32
MAX_VALUE: Final = 32 * 1024
MAX_ALL_VALUES: Final = 64 * 1024
MAX_HOSTS: Final = 32
MAX_ALL_HOSTS: Final = 128
PLACEHOLDER_PREFIX: Final = "atoll-secret-"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# What says where a request goes and where it ends is not for a secret to say.
_FRAMING = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "te")
)


class InvalidSecret(ValueError):
    """A secret that cannot be. The text says what to change, and never has a value in it."""


class WrittenSecret(Protocol):
    """A secret as a client writes it."""

    @property
    def value(self) -> str: ...
    @property
    def hosts(self) -> Sequence[str]: ...
    @property
    def header(self) -> str | None: ...


@dataclass(frozen=True)
class Secret:
    """One secret. `hosts` are names, and `*.name` for all below one; without `header` it may stand in any.

    The value is kept from what is printed, and is empty where only the rest is known.
    """

    name: str
    placeholder: str
    hosts: tuple[str, ...]
    header: str | None = None
    value: str = field(default="", repr=False)

    def is_for(self, host: str | None) -> bool:
        """Whether this host may have the value."""
        return host is not None and any(_covers(pattern, host) for pattern in self.hosts)

    def without_value(self) -> Secret:
        """What may be shown of it."""
        return replace(self, value="")


@dataclass(frozen=True)
class Keyring:
    """What the proxy needs to put a sandbox's secrets in: they, and what it signs certificates with (both PEM)."""

    secrets: tuple[Secret, ...]
    certificate: str
    key: str = field(repr=False)

    def names(self, host: str) -> bool:
        """Whether any secret is for this host, so that its TLS ends at the proxy."""
        return any(secret.is_for(host) for secret in self.secrets)

    def meant_for(self, host: str | None) -> tuple[Secret, ...]:
        """Those that this host may have."""
        return tuple(secret for secret in self.secrets if secret.is_for(host))

    def kept_from(self, host: str | None) -> tuple[Secret, ...]:
        """All others; of a host that nobody vouches for, all."""
        return tuple(secret for secret in self.secrets if not secret.is_for(host))


def parse_secrets(written: Mapping[str, WrittenSecret]) -> tuple[Secret, ...]:
    """Secrets from what a client wrote, by name, each with a placeholder of its own. Raises `InvalidSecret`."""
    if len(written) > MAX_SECRETS:
        raise InvalidSecret(f"{len(written)} secrets are given; {MAX_SECRETS} are possible")
    parsed = tuple(_parse_secret(name, secret) for name, secret in written.items())
    if sum(len(secret.value.encode()) for secret in parsed) > MAX_ALL_VALUES:
        raise InvalidSecret(f"all values together have more than {MAX_ALL_VALUES} bytes")
    if sum(len(secret.hosts) for secret in parsed) > MAX_ALL_HOSTS:
        raise InvalidSecret(f"all secrets together name more than {MAX_ALL_HOSTS} hosts")
    return parsed


def hosts_of(those: Iterable[Secret]) -> tuple[str, ...]:
    """Every host that one of them names, once."""
    return tuple(dict.fromkeys(host for secret in those for host in secret.hosts))


def _parse_secret(name: str, written: WrittenSecret) -> Secret:
    if not _NAME.fullmatch(name):
        raise InvalidSecret(f"{ascii(name)[:100]} is not the name of an environment variable")
    _check_value(name, written.value)
    if not 0 < len(written.hosts) <= MAX_HOSTS:
        raise InvalidSecret(f"{name} must name 1 to {MAX_HOSTS} hosts; got {len(written.hosts)}")
    hosts = tuple(dict.fromkeys(_parse_host(host) for host in written.hosts))
    if written.header is not None:
        _check_header(name, written.header)
    placeholder = f"{PLACEHOLDER_PREFIX}{secrets.token_hex(16)}"
    return Secret(name, placeholder, hosts, written.header, written.value)


def _check_value(name: str, value: str) -> None:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidSecret(f"the value of {name} is not valid Unicode") from None
    if not 0 < size <= MAX_VALUE:
        raise InvalidSecret(f"the value of {name} has {size} bytes; 1 to {MAX_VALUE} are possible")
    if _CONTROL.search(value):
        raise InvalidSecret(f"the value of {name} has a line break or another control character")
    if value.strip() != value:
        raise InvalidSecret(f"the value of {name} begins or ends with a space, which headers lose")


def _check_header(name: str, header: str) -> None:
    if not _HEADER.fullmatch(header):
        raise InvalidSecret(f"{ascii(header)[:100]}, for {name}, is not the name of a header")
    if header.lower() in _FRAMING:
        raise InvalidSecret(
            f"the header {header} cannot hold {name}: it says how to read a request"
        )


def _parse_host(written: str) -> str:
    """A name or `*.name` in its one spelling. An address is no name: nobody vouches for whose it is."""
    try:
        wildcard = "*." if written.startswith("*.") else ""
        return wildcard + parse_written_name(written.removeprefix("*."))
    except ValueError as error:
        raise InvalidSecret(f"{error}; hosts are names, or such as '*.example.com'") from None


def _covers(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
