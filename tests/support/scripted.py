# SPDX-License-Identifier: Apache-2.0
"""An HTTP server that says what it was told to say, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Said = tuple[int, dict[str, Any]]


class ScriptedServer:
    """Answers one request after the other with the next of `answers`, the last one for ever. Use it with `with`."""

    def __init__(self, *answers: Said) -> None:
        self.requests: list[str] = []
        self.keys: list[str | None] = []
        self.bodies: list[Any] = []
        self._answers = answers
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, line: str, key: str | None, body: bytes) -> Said:
        number = len(self.requests)
        self.requests.append(line)
        self.keys.append(key)
        self.bodies.append(json.loads(body) if body else None)
        return self._answers[min(number, len(self._answers) - 1)]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, said = take(
                    f"{self.command} {self.path}", self.headers.get("Authorization"), body
                )
                encoded = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

            do_GET = do_POST = do_DELETE = do_PUT = answer

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: pytest's output is for tests."""

        return Handler


def scripted_error(status: int, code: str, *, retryable: bool) -> Said:
    """An error as the API writes it."""
    error = {"code": code, "message": "as scripted", "retryable": retryable, "requestId": "r"}
    return status, {"error": error}


def scripted_page() -> Said:
    """An empty page of sandboxes."""
    pagination = {"total": 0, "limit": 100, "offset": 0, "hasMore": False}
    return 200, {"data": [], "pagination": pagination}


def scripted_sandbox(**fields: Any) -> Said:
    """A sandbox as the API writes it."""
    return 201, {
        "id": "sb_0123456789",
        "state": "running",
        "image": "host",
        "runtime": "container",
        "isolation": "container",
        "resources": {
            "cpu": 2,
            "memoryMb": 4096,
            "diskMb": 10240,
            "pids": 4096,
            "openFiles": 65536,
        },
        "env": {},
        "metadata": {},
        "workdir": "/workspace",
        "timeoutMs": 300_000,
        "idleTimeoutMs": 120_000,
        "createdAt": "2026-01-01T00:00:00.000Z",
        **fields,
    }
