# SPDX-License-Identifier: Apache-2.0
"""What policies decide."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.addresses import Guard
from atoll_server.network.policy import (
    Flow,
    Policy,
    Reason,
    decide,
    decide_flow,
    may_resolve,
    needs_name,
)
from atoll_server.network.written import parse_policy

A = ip_address("93.184.216.34")
GUARD = Guard(own=frozenset({ip_address("93.184.216.1")}))

names = st.sampled_from(["a.test", "x.a.test", "b.test", "evil.test"])
addresses = st.sampled_from(["93.184.216.34", "93.184.216.35", "169.254.169.254", "10.0.0.1"])
policies = st.builds(
    lambda default, allow, deny: parse_policy({"default": default, "allow": allow, "deny": deny}),
    st.sampled_from(["deny", "allow"]),
    st.lists(st.sampled_from(["a.test", "*.a.test:*", "0.0.0.0/0", "93.184.216.34:443"])),
    st.lists(st.sampled_from(["evil.test", "93.184.216.35", "b.test:443", "*.a.test"])),
)
flows = st.builds(
    Flow,
    addresses.map(ip_address),
    st.sampled_from([22, 80, 443, 8443]),
    st.none() | names,
    st.booleans(),
)


def allowing(*entries: str, default: str = "deny") -> Policy:
    return parse_policy({"default": default, "allow": list(entries)})


def denying(*entries: str) -> Policy:
    return parse_policy({"default": "allow", "deny": list(entries)})


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        *(("x.a.test", True), ("y.x.a.test", True), ("a.test", False), ("xa.test", False)),
        *(("a.test.evil.test", False), ("x-a.test", False)),
    ],
)
def test_wildcard_stands_for_what_is_below_it(name: str, allowed: bool) -> None:
    assert decide(allowing("*.a.test"), name, 443).allowed is allowed


@pytest.mark.parametrize(
    ("name", "allowed"), [("a.test", True), ("x.a.test", False), ("a.test.evil.test", False)]
)
def test_name_stands_for_itself(name: str, allowed: bool) -> None:
    assert decide(allowing("a.test"), name, 443).allowed is allowed


def test_name_without_ports_is_for_the_web() -> None:
    policy = allowing("a.test")

    assert decide(policy, "a.test", 80).allowed
    assert decide(policy, "a.test", 22).reason is Reason.PORT_NOT_LISTED


def test_network_is_decided_by_address_and_port() -> None:
    policy = allowing("93.184.216.0/24:443")

    assert decide(policy, A, 443).allowed
    assert decide(policy, A, 80).reason is Reason.PORT_NOT_LISTED
    assert decide(policy, ip_address("93.184.217.1"), 443).reason is Reason.NOT_LISTED
    assert decide(policy, ip_address("2606:2800::1"), 443).reason is Reason.NOT_LISTED


def test_denial_goes_before_permission() -> None:
    policy = parse_policy({"allow": ["*.a.test"], "deny": ["x.a.test"]})

    assert decide(policy, "x.a.test", 443).reason is Reason.DENIED
    assert decide(policy, "y.a.test", 443).allowed


def test_no_network_allows_nothing() -> None:
    policy = parse_policy("none")

    assert decide_flow(policy, GUARD, Flow(A, 443)).reason is Reason.NO_NETWORK
    assert may_resolve(policy, "a.test").reason is Reason.NO_NETWORK


def test_listed_name_opens_its_own_addresses_alone() -> None:
    policy = allowing("a.test")

    assert decide_flow(policy, GUARD, Flow(A, 443, "a.test", belongs=True)).allowed
    foreign = decide_flow(policy, GUARD, Flow(A, 443, "a.test", belongs=False))
    assert foreign.reason is Reason.NAME_FOREIGN


def test_neighbour_at_the_address_of_a_listed_name_stays_closed() -> None:
    verdict = decide_flow(allowing("a.test"), GUARD, Flow(A, 443, "b.test", belongs=True))

    assert verdict.reason is Reason.NOT_LISTED


def test_address_of_a_listed_name_stays_closed_to_who_names_nobody() -> None:
    assert decide_flow(allowing("a.test"), GUARD, Flow(A, 443)).reason is Reason.NAME_MISSING


def test_listed_address_is_open_whatever_the_name() -> None:
    policy = allowing("93.184.216.34")

    assert decide_flow(policy, GUARD, Flow(A, 443, "b.test")).allowed
    assert decide_flow(policy, GUARD, Flow(A, 22)).allowed


def test_denied_name_is_closed_even_at_a_listed_address() -> None:
    policy = parse_policy({"allow": ["93.184.216.34"], "deny": ["evil.test"]})

    assert decide_flow(policy, GUARD, Flow(A, 443, "evil.test")).reason is Reason.DENIED


def test_host_itself_is_closed_even_where_everything_is_allowed() -> None:
    flow = Flow(ip_address("93.184.216.1"), 443)

    assert decide_flow(parse_policy("allow"), GUARD, flow).reason is Reason.PROTECTED


@given(policies, flows)
def test_protected_address_is_never_allowed(policy: Policy, flow: Flow) -> None:
    if GUARD.refusal(flow.address, flow.port) is not None:
        assert decide_flow(policy, GUARD, flow).reason is Reason.PROTECTED


@given(policies, flows)
def test_what_is_denied_by_name_or_address_is_never_allowed(policy: Policy, flow: Flow) -> None:
    wanted = [flow.address, *([flow.name] if flow.name else [])]
    if any(
        decide(policy, destination, flow.port).reason is Reason.DENIED for destination in wanted
    ):
        assert not decide_flow(policy, GUARD, flow).allowed


@given(policies, flows)
def test_name_matters_only_where_it_is_said_to(policy: Policy, flow: Flow) -> None:
    if not needs_name(policy, flow.address, flow.port):
        nameless = Flow(flow.address, flow.port)
        assert (
            decide_flow(policy, GUARD, flow).allowed == decide_flow(policy, GUARD, nameless).allowed
        )


@given(policies, flows)
def test_what_is_not_listed_is_closed_by_default(policy: Policy, flow: Flow) -> None:
    listed = [
        rule for rule in policy.allow if rule.names(flow.address) or rule.names(flow.name or "")
    ]
    if policy.default == "deny" and not listed:
        assert not decide_flow(policy, GUARD, flow).allowed


def test_name_is_looked_for_where_a_rule_is_about_names() -> None:
    assert needs_name(allowing("a.test"), A, 443)
    assert not needs_name(allowing("a.test"), A, 22)
    assert not needs_name(allowing("a.test", "93.184.216.34"), A, 443)
    assert needs_name(denying("evil.test"), A, 22)
    assert not needs_name(parse_policy("allow"), A, 443)


def test_name_is_resolved_if_it_is_allowed_at_any_port() -> None:
    assert may_resolve(allowing("a.test:22"), "a.test").allowed
    assert not may_resolve(allowing("a.test:22"), "b.test").allowed
    assert not may_resolve(denying("evil.test"), "evil.test").allowed
    assert may_resolve(denying("evil.test:25"), "evil.test").allowed


@given(st.ip_addresses(v=4))
def test_everything_allowed_is_still_not_the_metadata_service(address: IPv4Address) -> None:
    policy = allowing("0.0.0.0/0", "169.254.169.254", default="allow")

    verdict = decide_flow(policy, GUARD, Flow(address, 80))

    assert verdict.allowed is (GUARD.refusal(address, 80) is None)
