# SPDX-License-Identifier: Apache-2.0
"""The addresses that no policy opens: private, link-local, metadata, the host's own. Only an operator opens some."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Named one by one, as Python's own `is_global` has changed between versions. What no one on the internet has is here
# too: it costs nobody anything, and is somebody's inner network more often than not.
_PROTECTED_V4 = tuple(
    (IPv4Network(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "a carrier's inner network"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local, where metadata services are"),
        ("172.16.0.0/12", "private"),
        ("168.63.129.16/32", "a metadata service"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved for documentation"),
        ("192.88.99.0/24", "6to4"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "reserved for benchmarks"),
        ("198.51.100.0/24", "reserved for documentation"),
        ("203.0.113.0/24", "reserved for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved, or broadcast"),
    )
)
# Of IPv6 only this part has ever been given out, and in it some stand for IPv4 addresses, which could be any.
_GLOBAL_V6 = IPv6Network("2000::/3")
_PROTECTED_V6 = tuple(
    (IPv6Network(network), why)
    for network, why in (
        ("2001::/23", "Teredo, or reserved"),
        ("2001:db8::/32", "reserved for documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "reserved for documentation"),
    )
)


@dataclass(frozen=True)
class Opening:
    """What an operator opens of the protected addresses: a network, at one port or, with None, at all."""

    network: Network
    port: int | None = None

    def covers(self, address: Address, port: int | None) -> bool:
        """Whether this opens the address at `port`, or with None at any port."""
        if address.version != self.network.version or address not in self.network:
            return False
        return None in (port, self.port) or port == self.port


@dataclass(frozen=True)
class Guard:
    """Which addresses are refused whatever a policy says. `own` are the host's."""

    own: frozenset[Address] = frozenset()
    opened: tuple[Opening, ...] = ()

    def refusal(self, address: Address, port: int | None = None) -> str | None:
        """Why this address is refused (with no port: at every port), or None where a policy may decide."""
        why = "the host itself" if address in self.own else _protected(address)
        if why is None or any(opening.covers(address, port) for opening in self.opened):
            return None
        return f"{address} is {why}: no policy opens it"


def parse_opening(text: str) -> Opening:
    """`10.1.2.3`, `10.1.2.0/24`, `10.1.2.3:5432`, `[fd00::1]:5432`. Raises `ValueError`."""
    host, _, port = text.rpartition(":") if _has_port(text) else (text, "", "")
    network = ip_network(host.removeprefix("[").removesuffix("]"))
    if not port:
        return Opening(network)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError(f"{text!r} has no port from 1 to 65535 after its colon")
    return Opening(network, int(port))


def parse_address(text: str) -> Address:
    """An address in its usual form alone: no octal, no zone, no number of 32 bits. Raises `ValueError`."""
    if "%" in text:
        raise ValueError(f"{text[:80]!r} names a zone, which has no meaning here")
    return ip_address(text)


def _has_port(text: str) -> bool:
    return "]:" in text if text.startswith("[") else text.count(":") == 1


def _protected(address: Address) -> str | None:
    if isinstance(address, IPv6Address):
        if address not in _GLOBAL_V6:
            return "private, link-local, reserved, or another address in disguise"
        return next((why for network, why in _PROTECTED_V6 if address in network), None)
    return next((why for network, why in _PROTECTED_V4 if address in network), None)
