# SPDX-License-Identifier: Apache-2.0
"""Asks the host's name servers. What they say is judged in `dns.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.message

ASK_TIMEOUT = 2.0
"""How long one name server is waited for, in seconds."""


@dataclass(frozen=True)
class NameServer:
    """Where a name server listens."""

    address: str
    port: int = 53


class Resolver:
    """Each server in turn, until one answers. It keeps nothing: what one sandbox asked, another cannot notice."""

    def __init__(self, servers: Sequence[NameServer], timeout: float = ASK_TIMEOUT) -> None:
        self._servers = tuple(servers)
        self._timeout = timeout
        # Imported by the library when first used, which a process without a file system of its own cannot do.
        self._backend = dns.asyncbackend.get_backend("asyncio")

    async def ask(self, query: dns.message.Message) -> dns.message.Message | None:
        """The answer; over TCP where a datagram could not hold it. None where no server gave one."""
        for server in self._servers:
            answer = await self._ask_one(query, server)
            if answer is not None:
                return answer
        return None

    async def _ask_one(
        self, query: dns.message.Message, server: NameServer
    ) -> dns.message.Message | None:
        try:
            answer, _ = await dns.asyncquery.udp_with_fallback(
                query,
                server.address,
                timeout=self._timeout,
                port=server.port,
                ignore_unexpected=True,
                ignore_errors=True,
                backend=self._backend,
            )
        except (dns.exception.DNSException, OSError, EOFError, asyncio.IncompleteReadError):
            return None
        return answer
