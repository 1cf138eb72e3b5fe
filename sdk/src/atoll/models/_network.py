# SPDX-License-Identifier: Apache-2.0
"""What a sandbox may reach, and what became of its attempts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ._fields import described

MAX_NETWORK_RULES = 256
MAX_EXPOSED_PORTS = 100


class EgressDefault(str, Enum):
    """What becomes of a destination that no rule names. With `none` there is no network at all."""

    NONE = "none"
    DENY = "deny"
    ALLOW = "allow"


@dataclass(frozen=True)
class Egress:
    """What a sandbox may connect to. `deny` goes before `allow`, and `allow` before `default`.

    A rule is a name (`example.com`), all names below one (`*.example.com`), an address or a network, each with ports or
    without: `git.example.com:22`, `[2001:db8::]/32:80,8000-8100`, `example.com:*`. An allowed name without ports is
    allowed at 80 and 443.
    """

    default: EgressDefault = field(
        default=EgressDefault.DENY, metadata=described("what is not named")
    )
    allow: list[str] = field(
        default_factory=list, metadata=described("may be reached", max_items=MAX_NETWORK_RULES)
    )
    deny: list[str] = field(
        default_factory=list, metadata=described("may not", max_items=MAX_NETWORK_RULES)
    )


@dataclass(frozen=True)
class Ingress:
    """What may be reached of a sandbox from outside. It is said when a sandbox is created, and for good."""

    allow_ports: list[int] = field(
        default_factory=list,
        metadata=described("may be exposed, and no others", max_items=MAX_EXPOSED_PORTS),
    )


@dataclass(frozen=True)
class Network:
    """The network of a sandbox."""

    egress: Egress = field(default_factory=Egress)
    ingress: Ingress | None = field(
        default=None, metadata=described("null: any port may be exposed")
    )


@dataclass(frozen=True)
class NetworkDenial:
    """An attempt that was refused."""

    destination: str = field(metadata=described("the name, or the address where none was seen"))
    port: int = field(metadata=described("53 for a question to the name server"))
    reason: str = field(metadata=described("in a word: `not_listed`, `protected_address`, …"))
    text: str = field(metadata=described("in a sentence, as the sandbox was told"))


@dataclass(frozen=True)
class NetworkReport:
    """What a sandbox did with its network. Counted since its proxy was started."""

    network: Network
    open_connections: int
    connections: int
    queries: int = field(metadata=described("questions to its name server that were passed on"))
    sent_bytes: int
    received_bytes: int
    denied: dict[str, int] = field(metadata=described("how often, by reason"))
    denials: list[NetworkDenial] = field(metadata=described("the last hundred, oldest first"))
