# SPDX-License-Identifier: Apache-2.0
"""What is in the two namespaces of a sandbox, as the host's own programs see it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from atoll_server.network.namespace import NamespaceDirectory, entered, find_fault
from atoll_server.network.netlink import NetlinkFailed
from tests.network.conftest import Attach
from tests.support.internet import run_on_thread

RULES = """\
table inet edge {
	chain incoming {
		type filter hook prerouting priority mangle; policy drop;
		iifname "lo" drop
		meta nfproto != ipv4 drop
		ip saddr != 100.64.0.2 drop
		ip daddr 100.64.0.1 udp dport 53 accept
		ip daddr 100.64.0.1 tcp dport 53 accept
		meta l4proto tcp tproxy ip to :15001 accept
		meta l4proto tcp reject with tcp reset
		limit rate 50/second burst 50 packets log group 1 snaplen 64 queue-threshold 1
		meta l4proto udp reject with icmp port-unreachable
		reject with icmp admin-prohibited
	}
}
"""


def look(namespace: Path, *argv: str) -> str:
    """What a program writes there."""

    def work() -> str:
        with entered(namespace):
            return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    return run_on_thread(work)


def test_edge_lets_names_and_tcp_to_the_proxy_and_refuses_the_rest(
    attach: Attach, directory: Path
) -> None:
    if shutil.which("nft") is None:
        pytest.skip("needs nft")
    sandbox_id, _ = attach("allow")
    edge = NamespaceDirectory(directory / "namespaces").paths(sandbox_id).edge

    # Older versions of nft write the kind of an ICMP message before its name.
    shown = look(edge, "nft", "list", "ruleset").replace("icmp type ", "icmp ")
    assert shown == RULES


def test_edge_does_not_depend_on_the_hosts_congestion_control(
    attach: Attach, directory: Path
) -> None:
    if shutil.which("ss") is None:
        pytest.skip("needs ss")
    sandbox_id, _ = attach("allow")
    edge = NamespaceDirectory(directory / "namespaces").paths(sandbox_id).edge

    shown = look(edge, "ss", "--tcp", "--listening", "--info", "--numeric", "sport = :15001")

    assert " reno " in shown


def test_sandbox_has_one_address_and_one_way(attach: Attach, directory: Path) -> None:
    sandbox_id, _ = attach("allow")
    inside = NamespaceDirectory(directory / "namespaces").paths(sandbox_id).inside

    links = json.loads(look(inside, "ip", "-json", "address", "show"))
    routes = json.loads(look(inside, "ip", "-json", "route", "show"))

    assert [link["ifname"] for link in links] == ["lo", "eth0"]
    (address,) = links[1]["addr_info"]
    assert (address["local"], address["prefixlen"]) == ("100.64.0.2", 30)
    assert [(route["dst"], route.get("gateway")) for route in routes] == [
        ("default", "100.64.0.1"),
        ("100.64.0.0/30", None),
    ]


def test_host_that_can_is_found_able_and_left_as_it_was(directory: Path) -> None:
    own = os.readlink("/proc/thread-self/ns/net")
    before = Path("/proc/net/dev").read_text().count("\n")

    assert find_fault() is None
    assert os.readlink("/proc/thread-self/ns/net") == own
    assert Path("/proc/net/dev").read_text().count("\n") == before


def test_namespace_that_cannot_be_finished_is_not_left(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a kernel without tproxy: a message that it refuses."""
    namespaces = NamespaceDirectory(directory / "namespaces")
    namespaces.make_edge("network-test-unfinished")
    monkeypatch.setattr("atoll_server.network.namespace.PREFIX", 99)

    with pytest.raises(NetlinkFailed, match="100.64.0.2/99"):
        namespaces.make_inside("network-test-unfinished")
    assert namespaces.list() == frozenset()
