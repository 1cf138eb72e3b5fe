# SPDX-License-Identifier: Apache-2.0
"""The HTTP API as a plain program sees it: `http.client`, and raw bytes where that is too polite."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.server import ServerProcess

TIMEOUT = 30.0
LEAST_CREATE = {"image": "host"}
_NO_KEY: Mapping[str, str] = {}


@dataclass(frozen=True)
class Answer:
    """A whole answer, and how long it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json()["error"]
        return error


class Api:
    """One server, spoken to with a key."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server

    def call(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        headers: Mapping[str, str] = _NO_KEY,
        key: str | None = "",
    ) -> Answer:
        """Send one request. `body` as it is if bytes, else as JSON; `key` None sends none, "" the right one."""
        with self.open(method, target, body, headers=headers, key=key) as (response, started):
            content = response.read()
            return Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                content,
                time.perf_counter() - started,
            )

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        headers: Mapping[str, str] = _NO_KEY,
        key: str | None = "",
    ) -> Iterator[tuple[http.client.HTTPResponse, float]]:
        """The same with an answer yet to be read. Leaving closes the connection."""
        sent = dict(headers)
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {key or self.server.api_key}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=TIMEOUT)
        try:
            started = time.perf_counter()
            connection.request(method, target, body, sent)
            yield connection.getresponse(), started
        finally:
            connection.close()

    def send_raw(self, request: bytes) -> bytes:
        """Send these bytes, end of file after them, and return all that comes."""
        with socket.create_connection(("127.0.0.1", self.server.port), TIMEOUT) as connection:
            # A server may refuse, and close, before it has read everything.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(65536):
                    answer += piece
            return answer

    def create(self, **fields: object) -> str:
        """A new sandbox's id."""
        answer = self.call("POST", "/v1/sandboxes", {**LEAST_CREATE, **fields})
        assert answer.status == 201, answer.body
        sandbox_id: str = answer.json()["id"]
        return sandbox_id

    def get(self, sandbox_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"/v1/sandboxes/{sandbox_id}")
        assert answer.status == 200, answer.body
        record: dict[str, Any] = answer.json()
        return record

    def execute(self, sandbox_id: str, command: str | list[str], **fields: object) -> Answer:
        body = {"command": command, **fields}
        return self.call("POST", f"/v1/sandboxes/{sandbox_id}/execute", body)

    def terminate(self, sandbox_id: str) -> Answer:
        return self.call("DELETE", f"/v1/sandboxes/{sandbox_id}")

    @contextlib.contextmanager
    def sandbox(self, **fields: object) -> Iterator[str]:
        """A sandbox for the time of a `with` block."""
        sandbox_id = self.create(**fields)
        try:
            yield sandbox_id
        finally:
            self.terminate(sandbox_id)

    def count(self, state: str | None = None) -> int:
        """How many sandboxes the server knows of."""
        query = f"&state={state}" if state else ""
        total: int = self.call("GET", f"/v1/sandboxes?limit=1{query}").json()["pagination"]["total"]
        return total
