# SPDX-License-Identifier: Apache-2.0
"""Policies as clients write them: read strictly, and rendered back. What is not understood is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from atoll_server.network.names import InvalidName, parse_written_name
from atoll_server.network.policy import (
    ALL_PORTS,
    WEB,
    Default,
    NameRule,
    NetworkRule,
    Policy,
    Ports,
    Rule,
)

MAX_RULES = 256
MAX_RULE = 400
MAX_PORT_RANGES = 16

_FIELDS = ("default", "allow", "deny")
_NUMERIC = re.compile(r"[0-9./]+", re.ASCII)
_PORT_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


class InvalidPolicy(ValueError):
    """A policy that cannot be understood. The text says what to change."""


def parse_policy(written: object) -> Policy:
    """A policy from `"none"`, `"deny"`, `"allow"`, or an object with `default`, `allow` and `deny`."""
    if isinstance(written, str):
        return Policy(_parse_default(written))
    if not isinstance(written, Mapping):
        raise InvalidPolicy("a network policy is 'none', 'deny', 'allow', or an object")
    unknown = [field for field in written if field not in _FIELDS]
    if unknown:
        raise InvalidPolicy(
            f"a network policy has no field {_shown(unknown[0])}; it has {', '.join(_FIELDS)}"
        )
    default = _parse_default(written.get("default", Default.DENY.value))
    allow = _parse_rules("allow", written.get("allow", []))
    deny = _parse_rules("deny", written.get("deny", []))
    if default is Default.NONE and (allow or deny):
        raise InvalidPolicy("a network policy of 'none' has no rules; leave out allow and deny")
    return Policy(default, allow, deny)


def render_policy(policy: Policy) -> dict[str, object]:
    """What `parse_policy` reads as the same policy."""
    return {
        "default": policy.default.value,
        "allow": render_rules(policy.allow),
        "deny": render_rules(policy.deny),
    }


def render_rules(rules: Iterable[Rule]) -> list[str]:
    """One entry for each rule, with all of its ports."""
    return [_render_rule(rule) for rule in rules]


def _parse_default(written: object) -> Default:
    if isinstance(written, str) and written in list(Default):
        return Default(written)
    raise InvalidPolicy(f"{_shown(written)} is no default; use 'none', 'deny' or 'allow'")


def _parse_rules(field: str, written: object) -> tuple[Rule, ...]:
    if not isinstance(written, list | tuple):
        raise InvalidPolicy(f"{field} must be a list of names, addresses and networks")
    if len(written) > MAX_RULES:
        raise InvalidPolicy(f"{field} has {len(written)} entries; {MAX_RULES} are possible")
    # A denied name is denied at every port; an allowed one is, unless told, where names can be seen.
    name_ports = WEB if field == "allow" else ALL_PORTS
    return tuple(_parse_rule(entry, name_ports) for entry in written)


def _parse_rule(written: object, name_ports: Ports) -> Rule:
    if not isinstance(written, str) or not 0 < len(written) <= MAX_RULE:
        raise InvalidPolicy(f"{_shown(written)} is not a text of 1 to {MAX_RULE} characters")
    if not written.isprintable() or " " in written:
        raise InvalidPolicy(f"{_shown(written)} has a space or a control character")
    target, ports = _split_ports(written)
    try:
        if target.startswith("[") or ":" in target or _NUMERIC.fullmatch(target):
            return _parse_network(target, ports or ALL_PORTS)
        return _parse_name_rule(target, ports or name_ports)
    except InvalidName as error:
        raise InvalidPolicy(str(error)) from None


def _parse_network(target: str, ports: Ports) -> NetworkRule:
    bare = target[1:-1] if target.startswith("[") and target.endswith("]") else target
    try:
        if "%" in bare:
            raise ValueError
        return NetworkRule(ip_network(bare), ports)
    except ValueError:
        raise InvalidPolicy(
            f"{_shown(target)} is not an address or a network in its usual form, such as"
            " '192.0.2.7', '192.0.2.0/24' or '[2001:db8::]/32'"
        ) from None


def _parse_name_rule(target: str, ports: Ports) -> NameRule:
    wildcard = target.startswith("*.")
    name = parse_written_name(target.removeprefix("*."))
    if wildcard and len(name) > 251:
        raise InvalidPolicy(f"{_shown(target)} is too long for anything to stand below it")
    return NameRule(name, wildcard, ports)


def _split_ports(written: str) -> tuple[str, Ports | None]:
    """The target, and the ports behind its colon. The colons of a bare IPv6 address are its own."""
    bracketed = re.fullmatch(r"(\[[^\]]*\])(/[0-9]{1,3})?(?::(.*))?", written)
    if bracketed is not None:
        inside, length, ports = bracketed.groups()
        target = f"[{inside[1:-1]}{length}]" if length else inside
        return target, None if ports is None else _parse_ports(ports)
    if written.count(":") != 1:
        return written, None
    target, _, ports = written.partition(":")
    return target, _parse_ports(ports)


def _parse_ports(written: str) -> Ports:
    if written == "*":
        return ALL_PORTS
    parts = written.split(",")
    if len(parts) > MAX_PORT_RANGES:
        raise InvalidPolicy(
            f"{len(parts)} ports and ranges in one entry; {MAX_PORT_RANGES} at most"
        )
    return Ports(tuple(_parse_port_range(part) for part in parts))


def _parse_port_range(written: str) -> tuple[int, int]:
    match = _PORT_RANGE.fullmatch(written)
    if match is not None:
        first, last = int(match[1]), int(match[2] or match[1])
        if 0 < first <= last < 65_536:
            return first, last
    raise InvalidPolicy(f"{_shown(written)} is not a port from 1 to 65535, or a range such as 1-9")


def _render_rule(rule: Rule) -> str:
    ports = ":" + ",".join(map(_render_port_range, rule.ports.ranges))
    if isinstance(rule, NameRule):
        return f"{'*.' if rule.wildcard else ''}{rule.name}{':*' if rule.ports == ALL_PORTS else ports}"
    network = rule.network
    target = str(network.network_address if network.num_addresses == 1 else network)
    if rule.ports == ALL_PORTS:
        return target
    return f"[{target}]{ports}" if network.version == 6 else f"{target}{ports}"


def _render_port_range(ports: tuple[int, int]) -> str:
    first, last = ports
    return str(first) if first == last else f"{first}-{last}"


def _shown(value: object) -> str:
    return ascii(value)[:100]
