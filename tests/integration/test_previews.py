# SPDX-License-Identifier: Apache-2.0
"""Previews: what passes between a visitor and a program inside, against the real server."""

from __future__ import annotations

import hashlib
import http.client
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import ClientConnection, connect

from atoll import Atoll, Sandbox
from tests.support.api import Api
from tests.support.preview import Visitor, read_answer, serve_app
from tests.support.preview_app import LARGE_BYTES
from tests.support.server import HOUR_MS, ServerProcess

PORT = 3000
WEBSOCKET_KIB = 32


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


@contextmanager
def open_socket(visitor: Visitor, path: str) -> Iterator[ClientConnection]:
    uri = f"ws://{visitor.host}{visitor.prefix}{path}"
    with visitor.connect() as peer, connect(uri, sock=peer, max_size=None) as opened:
        yield opened


# HTTP


def test_url_reaches_a_program_on_the_loopback(visitor: Visitor) -> None:
    told = visitor.ask("/a/b%20c?d=e&f").told

    assert (told["method"], told["target"]) == ("GET", "/a/b%20c?d=e&f")


def test_program_is_told_the_host_and_whence_the_visitor_came(visitor: Visitor) -> None:
    answer = visitor.ask("/", headers={"Accept-Language": "mi", "Cookie": "a=1; b=2"})

    assert answer.told_header("host") == [visitor.host]
    assert answer.told_header("x-forwarded-host") == [visitor.host]
    assert answer.told_header("x-forwarded-for") == ["127.0.0.1"]
    assert answer.told_header("x-forwarded-proto") == ["http"]
    assert answer.told_header("accept-language") == ["mi"]
    assert answer.told_header("cookie") == ["a=1; b=2"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_and_its_body_pass(visitor: Visitor, method: str) -> None:
    body = bytes(range(256)) * 100

    told = visitor.ask("/", method=method, body=body).told

    assert (told["method"], told["size"]) == (method, len(body))
    assert told["sha256"] == hashlib.sha256(body).hexdigest()


def test_head_has_headers_and_no_body(visitor: Visitor) -> None:
    answer = visitor.ask("/", method="HEAD")

    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.header("content-length") or 0) > 0


def test_chunked_request_passes_with_its_end(visitor: Visitor) -> None:
    head = f"POST / HTTP/1.1\r\nHost: {visitor.host}\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"5\r\nhello\r\n6;extension=1\r\n world\r\n0\r\n"
    behind = b"X-Sum: 7\r\nCookie: evil=1\r\nX-Forwarded-For: 6.6.6.6\r\nAuthorization: x\r\n\r\n"

    told = visitor.say(head.encode() + chunks + behind).told

    assert told["sha256"] == hashlib.sha256(b"hello world").hexdigest()
    assert told["trailers"] == ["x-sum: 7"]
    assert not {"x-sum", "cookie", "authorization"} & {name for name, _ in told["headers"]}


def test_chunked_answer_passes_with_what_is_behind_it(visitor: Visitor) -> None:
    request = f"GET /trailers HTTP/1.1\r\nHost: {visitor.host}\r\nConnection: close\r\n\r\n"

    with visitor.connect() as peer:
        peer.sendall(request.encode())
        head, _, body = peer.makefile("rb").read().partition(b"\r\n\r\n")

    assert b"transfer-encoding: chunked" in head.lower()
    assert body.endswith(b"\r\n0\r\nx-sum: 7\r\n\r\n")
    assert b"evil" not in head + body


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/http10", b"until the end"),
        ("/trailers", b"hello world"),
        ("/interim", b"ok"),
        ("/plain", b"hello"),
    ],
)
def test_answer_passes_in_whatever_form_it_comes(visitor: Visitor, path: str, body: bytes) -> None:
    answer = visitor.ask(path)

    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize(("path", "status"), [("/no-content", 204), ("/not-modified", 304)])
def test_answer_without_a_body_passes(visitor: Visitor, path: str, status: int) -> None:
    answer = visitor.ask(path)

    assert (answer.status, answer.body) == (status, b"")


def test_any_status_passes(visitor: Visitor) -> None:
    assert visitor.ask("/status").status == 418


def test_connection_is_kept_for_the_next_request(visitor: Visitor) -> None:
    request = f"GET /plain HTTP/1.1\r\nHost: {visitor.host}\r\n\r\n".encode()

    with visitor.connect() as peer:
        for _ in range(3):
            peer.sendall(request)
            assert read_answer(peer).body == b"hello"


@pytest.mark.parametrize("path", ["/plain", "/http10", "/trailers"])
def test_client_of_http_1_0_is_answered_without_chunks(visitor: Visitor, path: str) -> None:
    request = f"GET {path} HTTP/1.0\r\nHost: {visitor.host}\r\n\r\n".encode()

    answer = visitor.say(request)

    assert answer.status == 200
    assert answer.body in (b"hello", b"until the end", b"hello world")
    assert answer.header("transfer-encoding") is None


def test_expectation_to_continue_is_met(visitor: Visitor) -> None:
    head = f"POST / HTTP/1.1\r\nHost: {visitor.host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    with visitor.connect() as peer:
        peer.sendall(head.encode())
        assert peer.recv(1000).startswith(b"HTTP/1.1 100 ")
        peer.sendall(b"hello")
        answer = read_answer(peer)

    assert answer.told["size"] == 5
    assert answer.told_header("expect") == []


def test_events_come_one_by_one_as_they_are_written(visitor: Visitor) -> None:
    with visitor.connect() as peer:
        peer.sendall(f"GET /sse HTTP/1.1\r\nHost: {visitor.host}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(peer)
        answer.begin()
        assert answer.getheader("content-type") == "text/event-stream"
        for number in range(3):
            visitor.ask("/go")
            # Waits in vain if anything between holds the event back.
            assert answer.readline() == b"data: %d\n" % number
            assert answer.readline() == b"\n"
        assert answer.read() == b""


def test_large_bodies_pass_in_the_memory_of_small_ones(
    server: ServerProcess, visitor: Visitor
) -> None:
    size = 256 << 20
    visitor.ask("/plain")
    before = memory_kib(server.pid)

    with visitor.connect() as peer:
        head = f"POST / HTTP/1.1\r\nHost: {visitor.host}\r\nContent-Length: {size}\r\n\r\n"
        peer.sendall(head.encode())
        piece = bytes(1 << 20)
        for _ in range(size >> 20):
            peer.sendall(piece)
        uploaded = read_answer(peer).told["size"]
    downloaded = len(visitor.ask("/large").body)

    assert (uploaded, downloaded) == (size, LARGE_BYTES)
    assert memory_kib(server.pid) < before + (32 << 10)


def test_answer_before_the_end_of_the_request_is_passed_on(visitor: Visitor) -> None:
    with visitor.connect() as peer:
        head = (
            f"POST /refuse-body HTTP/1.1\r\nHost: {visitor.host}\r\nContent-Length: 100000\r\n\r\n"
        )
        peer.sendall(head.encode() + b"only the beginning")

        assert read_answer(peer).status == 413


def test_visitor_who_leaves_takes_his_request_with_him(visitor: Visitor) -> None:
    with visitor.connect() as peer:
        peer.sendall(f"GET /hang HTTP/1.1\r\nHost: {visitor.host}\r\n\r\n".encode())
        visitor.ask("/plain")

    assert visitor.ask("/wait-gone").body == b"gone"


def test_hundreds_of_visitors_are_served_at_once(visitor: Visitor) -> None:
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda number: visitor.ask(f"/{number}").told, range(400)))

    assert [told["target"] for told in answers] == [f"/{number}" for number in range(400)]


def test_plain_file_server_is_reached(server: ServerProcess, sandbox: Sandbox) -> None:
    sandbox.files.write("/srv/site/index.html", "<h1>a site</h1>")
    sandbox.processes.start("cd /srv/site && exec python3 -m http.server 3001")
    sandbox.wait_for_port(3001)

    answer = Visitor.of(server, sandbox.expose_port(3001)).ask("/")

    assert (answer.status, answer.body) == (200, b"<h1>a site</h1>")


# WebSockets


def test_websocket_passes_messages_both_ways(visitor: Visitor) -> None:
    with open_socket(visitor, "/ws") as opened:
        for message in ("text", b"\x00\xff", "", "x" * 200, b"y" * 70_000):
            opened.send(message)
            assert opened.recv() == message


def test_websocket_passes_a_hundred_megabytes(visitor: Visitor) -> None:
    piece = bytes(range(256)) * 4096

    with open_socket(visitor, "/ws") as opened:
        for _ in range(100):
            opened.send(piece)
            assert opened.recv() == piece


def test_websocket_passes_one_frame_of_a_hundred_megabytes(visitor: Visitor) -> None:
    size = 100 << 20
    with visitor.connect() as peer:
        shake_hands(visitor, peer, "/raw-ws")
        peer.sendall(b"\x82\xff" + size.to_bytes(8, "big") + bytes(4))
        piece = bytes(1 << 20)
        for _ in range(100):
            peer.sendall(piece)
        peer.shutdown(socket.SHUT_WR)

        # The program has read to our end, and answers although we have ended our side.
        assert peer.makefile("rb").read() == b"%d bytes" % (size + 14)


def test_websocket_that_the_program_refuses_is_answered_so(visitor: Visitor) -> None:
    with visitor.connect() as peer:
        peer.sendall(handshake(visitor, "/status"))
        answer = read_answer(peer)

    assert (answer.status, answer.body) == (418, b"tea")


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.soak)])
def test_many_websockets_are_held_in_little_memory(
    server: ServerProcess, visitor: Visitor, count: int
) -> None:
    """As many as before take the room of those."""
    before = memory_kib(server.pid)

    held = [hold(server, visitor, count) - before for _ in range(3)]

    assert max(held) < count * WEBSOCKET_KIB, held


def hold(server: ServerProcess, visitor: Visitor, count: int) -> int:
    """The server's memory while there are so many, who all talk in the end."""
    with ExitStack() as stack:
        peers = [stack.enter_context(visitor.connect()) for _ in range(count)]
        for peer in peers:
            shake_hands(visitor, peer, "/raw-ws")
        held = memory_kib(server.pid)
        for peer in peers:
            peer.sendall(b"12345")
            peer.shutdown(socket.SHUT_WR)
        assert {peer.makefile("rb").read() for peer in peers} == {b"5 bytes"}
        return held


def shake_hands(visitor: Visitor, peer: socket.socket, path: str) -> None:
    peer.sendall(handshake(visitor, path))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += peer.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head


def handshake(visitor: Visitor, path: str) -> bytes:
    return (
        f"GET {visitor.prefix}{path} HTTP/1.1\r\nHost: {visitor.host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


# Pages


def test_port_where_nothing_listens_says_so(server: ServerProcess, sandbox: Sandbox) -> None:
    visitor = Visitor.of(server, sandbox.expose_port(3999))

    plain, page = visitor.ask("/"), visitor.ask("/", headers={"Accept": "text/html"})

    assert plain.status == page.status == 502
    assert b"Nothing listens on port 3999 in this sandbox." in plain.body
    assert b"<p>Nothing listens on port 3999" in page.body
    assert page.header("content-type") == "text/html; charset=utf-8"


def test_closed_port_is_not_reached_any_more(server: ServerProcess, sandbox: Sandbox) -> None:
    serve_app(sandbox, 3002)
    visitor = Visitor.of(server, sandbox.expose_port(3002))
    assert visitor.ask("/plain").status == 200

    sandbox.close_port(3002)

    assert visitor.ask("/plain").status == 404


def test_exposed_ports_survive_a_crash_of_the_server(
    own_server: ServerProcess, runtime: str
) -> None:
    with Atoll(api_url=own_server.url, api_key=own_server.api_key) as client:
        sandbox = client.sandboxes.create("host", runtime=runtime)
        serve_app(sandbox, PORT)
        before = [sandbox.expose_port(PORT), sandbox.expose_port(3001, private=True)]
        own_server.kill()
        own_server.start()

        after = sandbox.get_ports()
        answer = Visitor.of(own_server, before[0]).ask("/plain")

    assert after == before
    assert answer.body == b"hello"


# By path


def test_path_reaches_the_same_program(server: ServerProcess, sandbox: Sandbox) -> None:
    by_path = Visitor.by_path(server, sandbox.expose_port(PORT))

    answer = by_path.ask("/a?b")

    assert answer.told["target"] == "/a?b"
    assert answer.told_header("host") == [f"localhost:{PORT}"]
    assert answer.told_header("x-forwarded-prefix") == [by_path.prefix]
    assert by_path.ask("/local-redirect").header("location") == f"{by_path.prefix}/login?x=1"
    bare = by_path.ask("")
    assert (bare.status, bare.header("location")) == (302, f"{by_path.prefix}/")


def test_path_carries_websockets(server: ServerProcess, sandbox: Sandbox) -> None:
    with open_socket(Visitor.by_path(server, sandbox.expose_port(PORT)), "/ws") as opened:
        opened.send("hello")
        assert opened.recv() == "hello"


def memory_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


# The server around them


def test_previews_are_counted(api: Api, server: ServerProcess, sandbox: Sandbox) -> None:
    visitor = Visitor.of(server, sandbox.expose_port(PORT))
    before = counted(api)
    with visitor.connect() as peer:
        shake_hands(visitor, peer, "/raw-ws")
        peer.sendall(b"12345")
        assert counted(api)["atoll_preview_open", "websocket"] >= 1
        peer.shutdown(socket.SHUT_WR)
        assert peer.makefile("rb").read() == b"5 bytes"
    for path in ("/plain", "/status", "/garbage"):
        visitor.ask(path)

    after = counted(api)

    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["atoll_preview_requests_total", "1xx"] == 1
    assert grown["atoll_preview_requests_total", "2xx"] == 1
    assert grown["atoll_preview_requests_total", "4xx"] == 1
    assert grown["atoll_preview_requests_total", "5xx"] == 1
    assert grown["atoll_preview_bytes_total", "in"] == 5
    assert grown["atoll_preview_bytes_total", "out"] > len("5 bytes") + len("hello") + len("tea")


def counted(api: Api) -> dict[tuple[str, str], float]:
    """What the server says of its previews, by name and label."""
    text = api.call("GET", "/metrics").body.decode()
    return {
        (sample.name, next(iter(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("atoll_preview_") and not sample.name.endswith("_created")
    }


def test_stopping_server_ends_previews_at_once_and_without_complaint(
    own_server: ServerProcess, runtime: str
) -> None:
    with Atoll(api_url=own_server.url, api_key=own_server.api_key) as client:
        sandbox = client.sandboxes.create("host", runtime=runtime)
        serve_app(sandbox, PORT)
        visitor = Visitor.of(own_server, sandbox.expose_port(PORT))
        with visitor.connect() as tunnel, visitor.connect() as events, visitor.connect() as silent:
            shake_hands(visitor, tunnel, "/raw-ws")
            events.sendall(f"GET /sse HTTP/1.1\r\nHost: {visitor.host}\r\n\r\n".encode())
            assert events.recv(9) == b"HTTP/1.1 "
            silent.sendall(f"GET /hang HTTP/1.1\r\nHost: {visitor.host}\r\n\r\n".encode())
            visitor.ask("/plain")
            own_server.stop()

            assert tunnel.recv(1) == b""
            assert read_answer(silent).status == 503
    own_server.start()

    assert " error " not in own_server.read_log()
    assert "Traceback" not in own_server.read_log()


def test_port_for_previews_alone_has_no_api(runtime: str) -> None:
    settings = {"ATOLL_PREVIEW_PORT": "0", "ATOLL_PREVIEW_DOMAIN": "preview.example.com"}
    with (
        ServerProcess(settings) as server,
        Atoll(api_url=server.url, api_key=server.api_key) as client,
        client.sandboxes.create("host", runtime=runtime) as sandbox,
    ):
        serve_app(sandbox, PORT)
        exposed = sandbox.expose_port(PORT)
        host, _, port = urlsplit(exposed.url).netloc.partition(":")
        key = {"Authorization": f"Bearer {server.api_key}"}

        assert host.endswith(".preview.example.com")
        assert int(port) != server.port
        assert Visitor(int(port), host).ask("/plain").body == b"hello"
        assert Visitor(int(port), "127.0.0.1").ask("/v1/sandboxes", headers=key).status == 404
        assert Visitor(server.port, host).ask("/plain").body == b"hello"


def test_program_without_a_server_has_urls_too(runtime: str) -> None:
    with Atoll() as client, client.sandboxes.create("host", runtime=runtime) as sandbox:
        serve_app(sandbox, PORT)
        netloc = urlsplit(sandbox.expose_port(PORT).url).netloc
        port = int(netloc.partition(":")[2])

        assert Visitor(port, netloc).ask("/plain").body == b"hello"
        assert Visitor(port, f"127.0.0.1:{port}").ask("/v1/health").status == 404
