# SPDX-License-Identifier: Apache-2.0
"""A program in a sandbox's network, played by a thread of the test."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import dns.edns
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from atoll_server.network.link import GATEWAY_ADDRESS
from atoll_server.network.namespace import entered
from tests.support.internet import run_on_thread

T = TypeVar("T")

TIMEOUT = 30.0


@dataclass(frozen=True)
class Response:
    """What a web server said."""

    status: int
    body: str
    headers: dict[str, str]


class Inside:
    """Speaks from a namespace; `authority` is the certificate that it trusts."""

    def __init__(self, namespace: Path, authority: Path) -> None:
        self._namespace = namespace
        self._tls = ssl.create_default_context(cafile=str(authority))

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns on a thread in there."""

        def enter_and_work() -> T:
            with entered(self._namespace):
                return work()

        return run_on_thread(enter_and_work)

    def connect(self, address: str, port: int) -> socket.socket:
        """An open connection."""
        return self.run(lambda: socket.create_connection((address, port), TIMEOUT))

    def ask(self, name: str, kind: str = "A", *, over_tcp: bool = False) -> dns.message.Message:
        """What the sandbox's name server answers."""
        query = dns.message.make_query(name, kind, use_edns=0)
        ask = dns.query.tcp if over_tcp else dns.query.udp
        return self.run(lambda: ask(query, GATEWAY_ADDRESS, timeout=TIMEOUT))

    def resolve(self, name: str) -> list[str]:
        """The addresses of a name; none where there are none."""
        answer = self.ask(name).answer
        return [str(record) for rrset in answer for record in rrset]

    def http(self, name: str, *, address: str | None = None, path: str = "/") -> Response:
        """GET of plain HTTP from `name`, or as if `address` were it."""
        return self._get(self.connect(address or self._find(name), 80), name, path)

    def https(self, name: str, *, address: str | None = None, sni: str | None = None) -> Response:
        """GET over TLS. With `sni` another server than the one of the request is named."""
        connection = self.connect(address or self._find(name), 443)
        try:
            wrapped = self._tls.wrap_socket(connection, server_hostname=sni or name)
        except BaseException:
            connection.close()
            raise
        return self._get(wrapped, name, "/")

    def exchange(self, address: str, port: int, said: bytes) -> bytes:
        """What comes back, up to the end, for these bytes."""
        with self.connect(address, port) as connection:
            connection.sendall(said)
            try:
                connection.shutdown(socket.SHUT_WR)
            except OSError as error:  # Linux calls one that was reset meanwhile "not connected".
                raise ConnectionResetError(*error.args) from error
            received = b""
            while piece := connection.recv(64 * 1024):
                received += piece
            return received

    def _find(self, name: str) -> str:
        addresses = self.resolve(name)
        if not addresses:
            raise OSError(f"{name} has no address")
        return addresses[0]

    def _get(self, connection: socket.socket, name: str, path: str) -> Response:
        client = http.client.HTTPConnection(name)
        client.sock = connection
        try:
            client.request("GET", path)
            response = client.getresponse()
            return Response(response.status, response.read().decode(), dict(response.headers))
        finally:
            client.close()
            connection.close()


def told_errors(message: dns.message.Message) -> str:
    """Why a name server refused, in its own words."""
    return " ".join(
        option.text or "" for option in message.options if isinstance(option, dns.edns.EDEOption)
    )


def seconds_of(work: Callable[[], object]) -> float:
    """How long it took."""
    began = time.monotonic()
    work()
    return time.monotonic() - began
