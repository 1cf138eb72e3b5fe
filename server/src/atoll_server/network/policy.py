# SPDX-License-Identifier: Apache-2.0
"""What a sandbox may reach, as records, and the pure functions that decide. `written.py` reads what clients write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from atoll_server.network.addresses import Address, Guard, Network

WEB_PORTS = frozenset((80, 443))


class Default(StrEnum):
    """What becomes of a destination that no rule names. With `NONE` there is no network, and there are no rules."""

    NONE = "none"
    DENY = "deny"
    ALLOW = "allow"


class Reason(StrEnum):
    """Why a verdict is what it is."""

    ALLOWED = "allowed"
    NO_NETWORK = "no_network"
    PROTECTED = "protected_address"
    DENIED = "denied_by_rule"
    NOT_LISTED = "not_listed"
    PORT_NOT_LISTED = "port_not_listed"
    NAME_MISSING = "name_missing"
    NAME_FOREIGN = "address_not_of_name"
    HOST_FOREIGN = "host_not_of_connection"
    SECRET = "secret_misplaced"
    MALFORMED = "malformed"
    PROTOCOL = "protocol"
    LIMIT = "limit"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Verdict:
    """Whether something may pass, and why. The text is for a person or a model inside the sandbox."""

    allowed: bool
    reason: Reason
    text: str


@dataclass(frozen=True)
class Ports:
    """Port ranges, both ends included."""

    ranges: tuple[tuple[int, int], ...]

    def __contains__(self, port: int) -> bool:
        return any(first <= port <= last for first, last in self.ranges)


ALL_PORTS = Ports(((1, 65_535),))
WEB = Ports(((80, 80), (443, 443)))


@dataclass(frozen=True)
class NameRule:
    """A name, or with `wildcard` every name below it."""

    name: str
    wildcard: bool
    ports: Ports

    def names(self, destination: str | Address) -> bool:
        """Whether it is about this destination, at whatever port."""
        if not isinstance(destination, str):
            return False
        return destination.endswith(f".{self.name}") if self.wildcard else destination == self.name


@dataclass(frozen=True)
class NetworkRule:
    """A network; one address is a network of one."""

    network: Network
    ports: Ports

    def names(self, destination: str | Address) -> bool:
        """Whether it is about this destination, at whatever port."""
        if isinstance(destination, str) or destination.version != self.network.version:
            return False
        return destination in self.network


Rule = NameRule | NetworkRule


@dataclass(frozen=True)
class Policy:
    """What one sandbox may reach. `deny` goes before `allow`, and `allow` before `default`."""

    default: Default
    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()


NO_NETWORK = Policy(Default.NONE)
NOTHING_YET = Policy(Default.DENY)
"""What holds for a network that was made before anybody said what it is for."""


@dataclass(frozen=True)
class Flow:
    """A connection about to be made: the name that it was seen to want, and whether the address is that name's."""

    address: Address
    port: int
    name: str | None = None
    belongs: bool = False


def decide(policy: Policy, destination: str | Address, port: int) -> Verdict:
    """What the lists say of one destination. Protected addresses are not their business."""
    if policy.default is Default.NONE:
        return Verdict(False, Reason.NO_NETWORK, "this sandbox has no network")
    where = f"{destination} port {port}"
    if any(_matching(policy.deny, destination, port)):
        return Verdict(False, Reason.DENIED, f"{where} is denied by the sandbox's network policy")
    if policy.default is Default.ALLOW or any(_matching(policy.allow, destination, port)):
        return Verdict(True, Reason.ALLOWED, f"{where} is allowed")
    if any(rule.names(destination) for rule in policy.allow):
        text = f"{destination} is allowed by the sandbox's network policy, but not at port {port}"
        return Verdict(False, Reason.PORT_NOT_LISTED, text)
    return Verdict(
        False, Reason.NOT_LISTED, f"{where} is not allowed by the sandbox's network policy"
    )


def decide_flow(policy: Policy, guard: Guard, flow: Flow) -> Verdict:
    """Whether a connection may be made. A name opens only addresses that were found to be the name's own."""
    refusal = guard.refusal(flow.address, flow.port)
    if refusal is not None:
        return Verdict(False, Reason.PROTECTED, refusal)
    by_address = decide(policy, flow.address, flow.port)
    if by_address.reason in (Reason.NO_NETWORK, Reason.DENIED):
        return by_address
    if flow.name is None:
        return _explain_missing(policy, flow, by_address)
    by_name = decide(policy, flow.name, flow.port)
    if by_name.reason is Reason.DENIED:
        return by_name
    if by_address.allowed:
        return by_address
    if flow.belongs or not by_name.allowed:
        return by_name
    text = f"{flow.address} is not an address of {flow.name}, as far as its name servers say"
    return Verdict(False, Reason.NAME_FOREIGN, text)


def needs_name(policy: Policy, address: Address, port: int) -> bool:
    """Whether the verdict on this address could change with the name that the connection turns out to want."""
    if any(_name_rules(policy.deny, port)):
        return True
    return not decide(policy, address, port).allowed and any(_name_rules(policy.allow, port))


def may_resolve(policy: Policy, name: str) -> Verdict:
    """Whether the name is worth an answer: it is denied at some ports at most, and allowed at one at least."""
    if policy.default is Default.NONE:
        return Verdict(False, Reason.NO_NETWORK, "this sandbox has no network")
    denied = [rule for rule in policy.deny if rule.names(name)]
    if any(rule.ports == ALL_PORTS for rule in denied):
        return Verdict(False, Reason.DENIED, f"{name} is denied by the sandbox's network policy")
    if policy.default is Default.ALLOW or any(rule.names(name) for rule in policy.allow):
        return Verdict(True, Reason.ALLOWED, f"{name} is allowed")
    return Verdict(
        False, Reason.NOT_LISTED, f"{name} is not allowed by the sandbox's network policy"
    )


def _explain_missing(policy: Policy, flow: Flow, by_address: Verdict) -> Verdict:
    """The verdict on a connection that told no name."""
    if by_address.allowed or not any(_name_rules(policy.allow, flow.port)):
        return by_address
    text = (
        f"{flow.address} port {flow.port} is not allowed by itself, and the connection names no host:"
        " it must begin as TLS with a server name, or as HTTP"
    )
    return Verdict(False, Reason.NAME_MISSING, text)


def _matching(rules: tuple[Rule, ...], destination: str | Address, port: int) -> Iterator[Rule]:
    return (rule for rule in rules if port in rule.ports and rule.names(destination))


def _name_rules(rules: tuple[Rule, ...], port: int) -> Iterator[NameRule]:
    return (rule for rule in rules if isinstance(rule, NameRule) and port in rule.ports)
