# SPDX-License-Identifier: Apache-2.0
"""What the proxy must know of the host that it runs on: its name servers, and its own addresses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from atoll_server import host

RESOLVER_FILE = Path("/etc/resolv.conf")
MAX_NAME_SERVERS = 3

_TIMEOUT = 10.0


def read_name_servers(file: Path = RESOLVER_FILE) -> tuple[tuple[str, int], ...]:
    """The host's name servers; none where the file names none."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ()
    named = [
        words[1] for line in lines if (words := line.split())[:1] == ["nameserver"] and words[1:]
    ]
    return tuple((address, 53) for address in named[:MAX_NAME_SERVERS] if _is_address(address))


def parse_name_servers(written: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """The same from what an operator wrote: `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`. Raises `ValueError`."""
    return tuple(_parse_name_server(text) for text in written)


def find_own_addresses() -> tuple[str, ...]:
    """Every address that an interface of this host has. Blocks."""
    found = host.run(["ip", "-json", "address", "show"], timeout=_TIMEOUT)
    return tuple(
        address["local"]
        for interface in json.loads(found.output)
        for address in interface.get("addr_info", ())
        if "local" in address
    )


def _parse_name_server(text: str) -> tuple[str, int]:
    if _is_address(text):
        return text, 53
    address, _, port = text.rpartition(":")
    bare = address.removeprefix("[").removesuffix("]")
    if not (_is_address(bare) and port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError(f"{text!r} is not the address of a name server")
    return bare, int(port)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
