# SPDX-License-Identifier: Apache-2.0
"""The rules of an edge, as nft gets them."""

from __future__ import annotations

from atoll_server.network.namespace import render_edge_rules

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
        meta l4proto udp reject with icmp type port-unreachable
        reject with icmp type admin-prohibited
    }
}
"""


def test_edge_lets_names_and_tcp_to_the_proxy_and_refuses_the_rest() -> None:
    assert render_edge_rules() == RULES
