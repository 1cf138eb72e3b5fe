# SPDX-License-Identifier: Apache-2.0
"""A visitor of previews, who writes each request by hand, and the program that he visits."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atoll import PortInfo, Sandbox
from tests.support.server import ServerProcess

APP = Path(__file__).with_name("preview_app.py")
PATIENCE = 30.0


def serve_app(sandbox: Sandbox, port: int) -> None:
    """Run the program of `preview_app` on a port of the sandbox's loopback."""
    sandbox.files.write("/tmp/preview_app.py", APP.read_text())
    sandbox.processes.start(["python3", "/tmp/preview_app.py", str(port)])
    sandbox.wait_for_port(port)


@dataclass(frozen=True)
class Answered:
    """A whole answer. Headers that come more than once are all there."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = self.all(name)
        return found[0] if found else None

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header.lower() == name]

    @property
    def told(self) -> Any:
        """What the program says that it was asked."""
        assert self.status == 200, (self.status, self.body)
        return json.loads(self.body)

    def told_header(self, name: str) -> list[str]:
        return [value for header, value in self.told["headers"] if header == name]


@dataclass(frozen=True)
class Visitor:
    """Asks for one host, at whatever address the server has, as a browser does that resolves `*.localhost`."""

    port: int
    host: str
    prefix: str = ""

    @classmethod
    def of(cls, server: ServerProcess, exposed: PortInfo) -> Visitor:
        return cls(server.port, urlsplit(exposed.url).netloc)

    @classmethod
    def by_path(cls, server: ServerProcess, exposed: PortInfo) -> Visitor:
        name = urlsplit(exposed.url).netloc.partition(".")[0]
        return cls(server.port, f"127.0.0.1:{server.port}", f"/p/{name}")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def ask(
        self,
        target: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answered:
        """One request on a connection of its own."""
        named = {"Host": self.host, "Connection": "close", **(headers or {})}
        if body:
            named["Content-Length"] = str(len(body))
        lines = [f"{method} {self.prefix}{target} HTTP/1.1", *map(": ".join, named.items())]
        return self.say("\r\n".join([*lines, "", ""]).encode() + body, method=method)

    def say(self, request: bytes, *, method: str = "GET") -> Answered:
        """Whatever bytes, and the answer to them."""
        with self.connect() as peer:
            peer.sendall(request)
            return read_answer(peer, method=method)


def read_answer(peer: socket.socket, *, method: str = "GET") -> Answered:
    answer = http.client.HTTPResponse(peer, method=method)
    answer.begin()
    body = answer.read()
    return Answered(answer.status, answer.getheaders(), body)
