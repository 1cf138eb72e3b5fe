# SPDX-License-Identifier: Apache-2.0
"""A server of one WebSocket on a unix socket: it says what the test wrote down, and remembers what it was told."""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, unix_serve

from tests.support.scripted_server import Answer

PATIENCE_SECONDS = 10.0
WAIT = "wait for a message"
HANG = "wait for the client to leave"


class ScriptedTerminal:
    """Each connection gets what is in `script` at the time: bytes, text, `WAIT`, `HANG`, or a number to close with.

    Requests that open no WebSocket are answered by `answers`, one after the other.
    """

    def __init__(self, path: Path) -> None:
        self.script: list[bytes | dict[str, Any] | str | int] = []
        self.answers: list[Answer] = []
        self.heard: list[str | bytes] = []
        self.asked: list[Request] = []
        self.left = threading.Event()
        self._path = path
        self._server: Server = unix_serve(
            self._serve, str(path), process_request=self._answer, compression=None
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"unix://{self._path}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(PATIENCE_SECONDS)

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        self.asked.append(request)
        if "Upgrade" in request.headers and not self.answers:
            return None
        answer = self.answers.pop(0)
        response = connection.respond(HTTPStatus(answer.status), answer.body.decode())
        return response

    def _serve(self, connection: ServerConnection) -> None:
        try:
            for said in self.script:
                if said in (WAIT, HANG):
                    self.heard.append(connection.recv(PATIENCE_SECONDS))
                elif isinstance(said, int):
                    connection.close(said)
                else:
                    connection.send(json.dumps(said) if isinstance(said, dict) else said)
        except ConnectionClosed:
            self.left.set()


@contextlib.contextmanager
def scripted_terminal() -> Iterator[ScriptedTerminal]:
    # Not pytest's directory: a unix socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="atoll-unit-") as directory:
        server = ScriptedTerminal(Path(directory, "s"))
        try:
            yield server
        finally:
            server.close()
