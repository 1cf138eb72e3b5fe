# SPDX-License-Identifier: Apache-2.0
"""A tiny HTTP server that answers as the test wrote down, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {k: v[0] for k, v in parse_qs(urlsplit(self.target).query).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """One answer. With `pieces` it is chunked, each sent by itself; `cut` closes without the end of the body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    pieces: tuple[bytes, ...] | None = None
    cut: bool = False
    hang: bool = False
    """Says nothing more, and waits for the client to go away."""


NOTHING = Answer(500, b"nothing scripted")
HANG_UP = Answer(status=0, cut=True)
"""Closes the connection without an answer."""


def answer_json(value: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(value).encode(), headers)


def answer_error(
    code: str,
    status: int,
    *,
    retryable: bool = False,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Answer:
    error = {"code": code, "message": f"it is {code}", "retryable": retryable, "requestId": "req_1"}
    return Answer(status, json.dumps({"error": {**error, **more}}).encode(), headers or {})


class ScriptedServer:
    """Listens on a unix socket. `script` holds the answers to come; one that is missing is a 500 that says so."""

    def __init__(self, directory: Path) -> None:
        self.script: list[Answer] = []
        self.asked: list[Asked] = []
        self.left = threading.Event()
        """Set when a client went away while it was kept waiting."""
        self.gone = 0
        """How many connections have ended, from whichever side."""
        self._arrived = threading.Condition()
        self._path = directory / "s"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"unix://{self._path}"

    @property
    def connections(self) -> int:
        return len(self._connections)

    def wait_asked(self, count: int) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.asked) >= count, PATIENCE_SECONDS)

    def wait_gone(self, count: int) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.gone >= count, PATIENCE_SECONDS)

    def close(self) -> None:
        # `shutdown` is what wakes a thread that waits in accept or recv; closing alone does not.
        for open_socket in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        self._accepting.join(PATIENCE_SECONDS)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        for open_socket in (self._listener, *self._connections):
            open_socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as reader:
                while (asked := _read_request(reader)) is not None:
                    with self._arrived:
                        self.asked.append(asked)
                        self._arrived.notify_all()
                    answer = self.script.pop(0) if self.script else NOTHING
                    if not self._send(connection, answer):
                        connection.shutdown(socket.SHUT_RDWR)
                        return
        except (OSError, ValueError):  # ValueError: it left in the middle of a chunk
            self.left.set()
        finally:
            with self._arrived:
                self.gone += 1
                self._arrived.notify_all()

    def _send(self, connection: socket.socket, answer: Answer) -> bool:
        """Whether the connection may be used again."""
        if answer.status:
            connection.sendall(_head(answer))
            if answer.pieces is None:
                connection.sendall(answer.body)
            for piece in answer.pieces or ():
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        if answer.hang:
            connection.settimeout(PATIENCE_SECONDS)
            if not connection.recv(1):
                self.left.set()
            return False
        if answer.cut:
            return False
        if answer.pieces is not None:
            connection.sendall(b"0\r\n\r\n")
        return True


@contextlib.contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    # Not pytest's directory: a unix socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="atoll-unit-") as directory:
        server = ScriptedServer(Path(directory))
        try:
            yield server
        finally:
            server.close()


def _head(answer: Answer) -> bytes:
    headers = {"Content-Type": "application/json; charset=utf-8", **answer.headers}
    if answer.pieces is not None:
        headers["Transfer-Encoding"] = "chunked"
    elif answer.status != 204:
        headers["Content-Length"] = str(len(answer.body) + (1 if answer.cut else 0))
    lines = [f"HTTP/1.1 {answer.status} Said", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def _read_request(reader: Any) -> Asked | None:
    first = reader.readline()
    if not first:
        return None
    method, target, _ = first.decode().split(" ", 2)
    headers = {}
    while (line := reader.readline().strip()) != b"":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return Asked(method, target, headers, _read_body(reader, headers))


def _read_body(reader: Any, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        body: bytes = reader.read(int(headers.get("content-length", "0")))
        return body
    parts = []
    while (size := int(reader.readline(), 16)) > 0:
        parts.append(reader.read(size))
        reader.readline()
    reader.readline()
    return b"".join(parts)
