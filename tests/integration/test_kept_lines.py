# SPDX-License-Identifier: Apache-2.0
"""Connections to programs that previews keep: what they save, and that nobody notices anything else of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from atoll import Atoll, Sandbox
from tests.support.preview import Visitor, serve_app
from tests.support.server import HOUR_MS, ServerProcess
from tests.support.waiting import wait_until

PORT, SINGLE_PORT = 3000, 3001
TOKEN = "atoll-preview-token"
# Takes the next connection when this one has ended, and tells nobody that it will end one.
SINGLE = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    do_POST = do_GET
HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def sandbox(server: ServerProcess, runtime: str) -> Iterator[Sandbox]:
    with (
        Atoll(api_url=server.url, api_key=server.api_key) as client,
        client.sandboxes.create("host", runtime=runtime, timeout_ms=HOUR_MS) as sandbox,
    ):
        serve_app(sandbox, PORT)
        yield sandbox


@pytest.fixture(scope="module")
def visitor(server: ServerProcess, sandbox: Sandbox) -> Visitor:
    return Visitor.of(server, sandbox.expose_port(PORT))


def connection_of(visitor: Visitor, **headers: str) -> str:
    """The number of the connection that the program was asked over."""
    answer = visitor.ask("/who", headers=headers)
    assert answer.status == 200
    return answer.body.split()[0].decode()


def test_requests_behind_each_other_share_a_connection(visitor: Visitor) -> None:
    # A slow machine may take longer for one than a connection is kept.
    wait_until(lambda: connection_of(visitor) == connection_of(visitor))


def test_request_that_may_not_be_repeated_has_a_connection_of_its_own(visitor: Visitor) -> None:
    for _ in range(3):
        visitor.ask("/who")
        posted = visitor.ask("/who", method="POST", body=b"x")
        named = visitor.ask("/who", headers={"Authorization": "Bearer theirs"})

        assert posted.body.endswith(b" 0")
        assert named.body.endswith(b" 0")


def test_tokens_of_one_preview_share_no_connection(server: ServerProcess, sandbox: Sandbox) -> None:
    exposed = sandbox.expose_port(PORT, private=True)
    try:
        door = Visitor.of(server, exposed)
        signed = sandbox.ports.sign(PORT, lasts_ms=600_000).url.partition("=")[2]

        first = {connection_of(door, **{TOKEN: exposed.token or ""}) for _ in range(3)}
        second = {connection_of(door, **{TOKEN: signed}) for _ in range(3)}
    finally:
        sandbox.expose_port(PORT, private=False)

    assert not first & second


def test_request_on_a_connection_that_ends_is_asked_again(visitor: Visitor) -> None:
    for _ in range(20):
        visitor.ask("/who")

        assert visitor.ask("/once").body.endswith(b" 0")


def test_what_comes_behind_an_answer_is_nobodys_answer(visitor: Visitor) -> None:
    for _ in range(20):
        first, second = visitor.ask("/more-behind"), visitor.ask("/who")

        assert first.body == b"first"
        assert re.fullmatch(rb"\d+ \d+", second.body)
        assert second.header("set-cookie") is None


def test_program_that_takes_one_connection_at_a_time_serves_many_visitors(
    server: ServerProcess, sandbox: Sandbox
) -> None:
    sandbox.processes.start(["python3", "-c", SINGLE.format(port=SINGLE_PORT)])
    sandbox.wait_for_port(SINGLE_PORT)
    visitor = Visitor.of(server, sandbox.expose_port(SINGLE_PORT))

    def ask(number: int) -> int:
        method = ("GET", "POST")[number % 2]
        return visitor.ask("/", method=method, body=b"x" * (number % 2)).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(40))) == {200}
