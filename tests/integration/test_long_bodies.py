# SPDX-License-Identifier: Apache-2.0
"""Bodies that are too long, or that do not go on: answered early, read no further, and nothing of them kept."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from tests.support.api import TIMEOUT, Api
from tests.support.server import ServerProcess

MIB = 1 << 20
HUGE = 300 * MIB
JSON_HEADERS = {"Content-Type": "application/json"}
OCTETS = {"Content-Type": "application/octet-stream"}


class Connection:
    """One that says exactly what the test wants, and reads what comes."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.socket = socket.create_connection(("127.0.0.1", api.server.port), TIMEOUT)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send_head(self, method: str, target: str, *headers: str) -> None:
        lines = [
            f"{method} {target} HTTP/1.1",
            "Host: a",
            f"Authorization: Bearer {self._api.server.api_key}",
            *headers,
        ]
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")

    def read_all(self) -> bytes:
        """Everything until the server ends the connection."""
        answer = b""
        while piece := self.socket.recv(65536):
            answer += piece
        return answer


@pytest.fixture
def impatient() -> Iterator[ServerProcess]:
    with ServerProcess({"ATOLL_UPLOAD_IDLE_MS": "300"}) as server:
        yield server


@pytest.mark.parametrize("size", [17 * MIB, HUGE], ids=["17 MiB", "300 MiB"])
def test_a_body_that_is_too_large_is_refused_and_its_sender_gets_to_know(
    api: Api, sandbox_id: str, size: int
) -> None:
    """`http.client` reads nothing before it has sent everything."""
    target = f"/v1/sandboxes/{sandbox_id}/execute"

    answer = api.call("POST", target, b" " * size, headers=JSON_HEADERS)

    assert (answer.status, answer.error["code"]) == (413, "TOO_LARGE")
    assert answer.headers["connection"] == "close"
    assert str(size) in answer.error["message"]


def test_a_length_that_is_too_large_is_refused_before_any_body(api: Api) -> None:
    with Connection(api) as connection:
        connection.send_head(
            "POST", "/v1/sandboxes", "Content-Type: application/json", f"Content-Length: {HUGE}"
        )

        answer = connection.read_all()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "TOO_LARGE"


def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large(api: Api) -> None:
    with Connection(api) as connection:
        connection.send_head(
            "POST",
            "/v1/sandboxes",
            "Content-Type: application/json",
            "Transfer-Encoding: chunked",
        )
        for _ in range(17):
            connection.socket.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")

        answer = connection.read_all()

    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("key", "target", "status"),
    [("wrong", "/v1/sandboxes", 401), ("", "/v1/nowhere", 404), ("", "/v1/health", 405)],
)
def test_a_long_body_that_nobody_wants_is_refused_and_its_sender_gets_to_know(
    api: Api, key: str, target: str, status: int
) -> None:
    answer = api.call("POST", target, b" " * HUGE, headers=JSON_HEADERS, key=key)

    assert (answer.status, answer.headers["connection"]) == (status, "close")


def test_an_upload_that_fails_half_way_tells_its_sender_why(api: Api, sandbox_id: str) -> None:
    target = f"/v1/sandboxes/{sandbox_id}/files?path=/proc/nowhere/file"

    answer = api.call("PUT", target, b"x" * HUGE, headers=OCTETS)

    assert 400 <= answer.status < 500, answer.body
    assert answer.error["code"].startswith("FILE_")


def test_the_server_serves_others_while_a_refused_body_still_comes(api: Api) -> None:
    with Connection(api) as connection:
        connection.send_head(
            "POST", "/v1/sandboxes", "Content-Type: application/json", f"Content-Length: {HUGE}"
        )
        connection.socket.sendall(b" " * MIB)

        assert api.call("GET", "/v1/health").status == 200


def test_a_connection_serves_on_after_a_short_body_that_was_refused(api: Api) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.server.port, timeout=TIMEOUT)
    try:
        connection.request("POST", "/v1/sandboxes", b" " * 10_000)
        first = connection.getresponse()
        first.read()
        connection.request("GET", "/v1/health")

        assert (first.status, connection.getresponse().status) == (401, 200)
    finally:
        connection.close()


@pytest.mark.parametrize(
    "length", ["Content-Length: 1000000", "Transfer-Encoding: chunked"], ids=["sized", "chunked"]
)
@pytest.mark.parametrize("verb", ["files", "files/archive"])
def test_an_upload_that_falls_silent_is_ended_and_leaves_nothing(
    impatient: ServerProcess, runtime: str, length: str, verb: str
) -> None:
    api = Api(impatient)
    media_type = "application/x-tar" if "archive" in verb else "application/octet-stream"
    with api.sandbox(runtime=runtime) as sandbox_id, Connection(api) as connection:
        target = f"/v1/sandboxes/{sandbox_id}/{verb}?path=/tmp/upload/file"
        connection.send_head("PUT", target, f"Content-Type: {media_type}", length)
        connection.socket.sendall(b"400\r\n" + b"x" * 1000)

        answer = connection.read_all()

        left = api.execute(sandbox_id, "find /tmp/upload -type f").json()["stdout"]
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"nothing more of the body came for 0.3 s" in answer
    assert left == ""
