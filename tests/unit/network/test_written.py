# SPDX-License-Identifier: Apache-2.0
"""Policies as clients write them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.policy import (
    ALL_PORTS,
    WEB,
    Default,
    NameRule,
    NetworkRule,
    Policy,
    Ports,
)
from atoll_server.network.written import (
    MAX_PORT_RANGES,
    MAX_RULES,
    InvalidPolicy,
    parse_policy,
    render_policy,
)

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
)


@pytest.mark.parametrize("default", list(Default))
def test_one_word_is_a_policy(default: Default) -> None:
    assert parse_policy(default.value) == Policy(default)


def test_lists_without_a_default_deny_the_rest() -> None:
    assert parse_policy({"allow": []}).default is Default.DENY


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("Example.test", NameRule("example.test", False, WEB)),
        ("example.test.:8443", NameRule("example.test", False, Ports(((8443, 8443),)))),
        ("*.a.test:22,8000-8100", NameRule("a.test", True, Ports(((22, 22), (8000, 8100))))),
        ("a.test:*", NameRule("a.test", False, ALL_PORTS)),
        ("bücher.test", NameRule("xn--bcher-kva.test", False, WEB)),
        ("93.184.216.34", NetworkRule(ip_network("93.184.216.34"), ALL_PORTS)),
        ("93.184.216.0/24:53", NetworkRule(ip_network("93.184.216.0/24"), Ports(((53, 53),)))),
        ("2606:2800::1", NetworkRule(ip_network("2606:2800::1"), ALL_PORTS)),
        ("[2606:2800::1]:443", NetworkRule(ip_network("2606:2800::1"), Ports(((443, 443),)))),
        ("[2606:2800::]/32", NetworkRule(ip_network("2606:2800::/32"), ALL_PORTS)),
        ("[2606:2800::/32]:80", NetworkRule(ip_network("2606:2800::/32"), Ports(((80, 80),)))),
    ],
)
def test_entry_is_a_name_a_wildcard_or_a_network(
    written: str, rule: NameRule | NetworkRule
) -> None:
    assert parse_policy({"allow": [written]}).allow == (rule,)


def test_denied_name_is_denied_at_every_port() -> None:
    assert parse_policy({"deny": ["a.test"]}).deny == (NameRule("a.test", False, ALL_PORTS),)


@pytest.mark.parametrize(
    "entry",
    [
        *("", " a.test", "a.test ", "a\n.test", "a.test\0", "*", "*.", "a.*.test", "*a.test"),
        *("https://a.test", "a.test/path", "user@a.test", "a..test", "a.test:", "a.test:0"),
        *("a.test:65536", "a.test:9-1", "a.test:-1", "a.test:80,,81", "a.test:１", "x" * 500),
        *("10.0.0.1/8", "1.2.3.4/33", "0177.0.0.1", "127.1", "2130706433", "0x7f000001"),
        *("1.2.3.4:80:81", "[::1", "[::1]x", "[fe80::1%eth0]", "fe80::1%eth0", "[a.test]:80"),
        ",".join(f"a.test:{n}" for n in range(1, 3)),
        "a.test:" + ",".join(str(n) for n in range(1, MAX_PORT_RANGES + 2)),
        *(7, None, True, ["a.test"], {"to": "a.test"}),
    ],
)
def test_entry_that_is_not_understood_is_refused(entry: object) -> None:
    with pytest.raises(InvalidPolicy):
        parse_policy({"allow": [entry]})


@pytest.mark.parametrize(
    "written",
    [
        *(None, 7, [], "open", "Allow", {"default": "none", "allow": ["a.test"]}),
        *({"default": None}, {"allow": "a.test"}, {"allow": None}, {"permit": []}, {"default": []}),
        {"allow": ["a.test"] * (MAX_RULES + 1)},
    ],
)
def test_policy_that_is_not_understood_is_refused(written: object) -> None:
    with pytest.raises(InvalidPolicy):
        parse_policy(written)


def test_refusal_names_what_is_wrong() -> None:
    with pytest.raises(InvalidPolicy, match="'10.0.0.1/8' is not an address or a network"):
        parse_policy({"allow": ["10.0.0.1/8"]})


@given(json)
def test_anything_is_a_policy_or_refused(written: object) -> None:
    try:
        policy = parse_policy(written)
    except InvalidPolicy:
        return
    assert parse_policy(render_policy(policy)) == policy


ports = st.sampled_from(["", ":443", ":1-9,77", ":*"])
targets = st.sampled_from(
    ["a.test", "*.b.test", "93.184.216.34", "93.184.0.0/16", "[2606::]/16", "bücher.test"]
)
entries = st.lists(st.builds(str.__add__, targets, ports), max_size=8)


@given(st.sampled_from(["deny", "allow"]), entries, entries)
def test_rendered_policy_is_read_as_the_same(
    default: str, allow: list[str], deny: list[str]
) -> None:
    policy = parse_policy({"default": default, "allow": allow, "deny": deny})

    assert parse_policy(render_policy(policy)) == policy
