# SPDX-License-Identifier: Apache-2.0
"""The one link that a sandbox has, the same for all: itself at one end, and at the other what stands for the world.

Nothing is behind the other end but the proxy's sockets, so the addresses need be unique nowhere.
"""

from __future__ import annotations

SANDBOX_ADDRESS = "100.64.0.2"
GATEWAY_ADDRESS = "100.64.0.1"
PREFIX = 30

INSIDE_LINK = "eth0"
EDGE_LINK = "edge0"

DNS_PORT = 53
PROXY_PORT = 15_001
"""Where every TCP connection is turned to, whatever its address and port."""
LOG_GROUP = 1
"""Under which number what is refused is logged. Each namespace has numbers of its own."""
MTU = 65_000
"""Nothing on this link is ever sent on as it is, so packets may be as large as they can: a fifth more goes through."""
