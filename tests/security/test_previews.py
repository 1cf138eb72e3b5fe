# SPDX-License-Identifier: Apache-2.0
"""Previews: what strangers, visitors and the programs inside must not be able to do."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator

import pytest

from atoll import Atoll, PortInfo, Sandbox
from tests.support.preview import Answered, Visitor, read_answer, serve_app
from tests.support.server import HOUR_MS, ServerProcess

PORT, PRIVATE_PORT = 3000, 3001
LABEL = "a" * 20
TOKEN = "atoll-preview-token"


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Atoll]:
    with Atoll(api_url=server.url, api_key=server.api_key) as client:
        yield client


@pytest.fixture(scope="module")
def sandbox(client: Atoll, runtime: str) -> Iterator[Sandbox]:
    with client.sandboxes.create("host", runtime=runtime, timeout_ms=HOUR_MS) as sandbox:
        serve_app(sandbox, PORT)
        serve_app(sandbox, PRIVATE_PORT)
        yield sandbox


@pytest.fixture(scope="module")
def visitor(server: ServerProcess, sandbox: Sandbox) -> Visitor:
    return Visitor.of(server, sandbox.expose_port(PORT))


@pytest.fixture(scope="module")
def private(sandbox: Sandbox) -> PortInfo:
    return sandbox.expose_port(PRIVATE_PORT, private=True)


@pytest.fixture(scope="module")
def stranger(server: ServerProcess) -> Visitor:
    """Asks for a preview that never was."""
    return Visitor(server.port, f"3000-{LABEL}.localhost:{server.port}")


def told(answer: Answered) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that a stranger gets to see, but for the time of day."""
    return answer.status, [pair for pair in answer.headers if pair[0] != "date"], answer.body


# Tokens


def test_private_port_does_not_open_without_its_token(
    server: ServerProcess, sandbox: Sandbox, private: PortInfo, stranger: Visitor
) -> None:
    door = Visitor.of(server, private)
    other = sandbox.expose_port(3005, private=True)
    expired = sandbox.ports.sign(PRIVATE_PORT, lasts_ms=1).url.partition("=")[2]
    wait_until_past(expired)
    assert private.token is not None
    last = "A" if private.token[-1] != "A" else "B"
    wrong = (other.token, expired, private.token[:-2] + last * 2, "0." + "A" * 43, "", "x")

    answers = [door.ask("/plain")]
    answers += [door.ask("/plain", headers={TOKEN: token or ""}) for token in wrong]
    answers += [door.ask(f"/plain?{TOKEN}={token}") for token in wrong]
    answers += [door.ask("/plain", headers={"Cookie": f"atoll-preview={token}"}) for token in wrong]

    assert {answer.status for answer in answers} == {404}
    assert all(told(answer) == told(stranger.ask("/plain")) for answer in answers)


def wait_until_past(token: str) -> None:
    until = int(token.partition(".")[0])
    while time.time() < until:
        time.sleep(0.01)  # noqa: TID251 - the token's end is an instant of real time


def test_token_of_a_closed_port_does_not_open_the_next(
    server: ServerProcess, sandbox: Sandbox
) -> None:
    first = sandbox.expose_port(3006, private=True)
    sandbox.close_port(3006)
    second = sandbox.expose_port(3006, private=True)

    assert Visitor.of(server, second).ask("/", headers={TOKEN: first.token or ""}).status == 404
    assert Visitor.of(server, first).ask("/", headers={TOKEN: first.token or ""}).status == 404


def test_token_does_not_reach_the_program(server: ServerProcess, private: PortInfo) -> None:
    door, token = Visitor.of(server, private), private.token or ""
    referrer = f"{private.url}?{TOKEN}={token}&a=1"
    ways = [
        door.ask("/x?a=1", headers={TOKEN: token}),
        door.ask(f"/x?a=1&{TOKEN}={token}"),
        door.ask(f"/x?{TOKEN}={token}&a=1"),
        door.ask("/x?a=1", headers={"Cookie": f"c=d; atoll-preview={token}", "Referer": referrer}),
    ]

    for answer in ways:
        assert answer.told["target"] == "/x?a=1"
        assert token.encode() not in answer.body
    assert ways[-1].told_header("cookie") == ["c=d"]


def test_token_does_not_stay_in_the_address_of_a_browser(
    server: ServerProcess, sandbox: Sandbox, private: PortInfo
) -> None:
    signed = sandbox.ports.sign(PRIVATE_PORT, lasts_ms=60_000)
    query, door = signed.url.partition("?")[2], Visitor.of(server, private)

    arrived = door.ask(f"/page?{query}&a=1", headers={"Accept": "text/html"})
    cookie = arrived.header("set-cookie") or ""

    assert (arrived.status, arrived.header("location")) == (302, "/page?a=1")
    assert re.fullmatch(r"atoll-preview=\S+; Path=/; HttpOnly; SameSite=Lax; Max-Age=\d\d", cookie)
    assert arrived.header("referrer-policy") == "no-referrer"
    went_on = door.ask("/page?a=1", headers={"Cookie": cookie.partition(";")[0]})
    assert went_on.told["target"] == "/page?a=1"


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "/\\/evil.example/"])
def test_moving_a_token_out_of_an_address_leads_to_no_other_host(
    server: ServerProcess, private: PortInfo, path: str
) -> None:
    """A link to a preview that one trusts could lead anywhere."""
    door = Visitor.of(server, private)

    moved = door.ask(f"{path}?{TOKEN}={private.token}", headers={"Accept": "text/html"})

    assert (moved.status, moved.header("location")) == (302, "/evil.example/")


def test_token_does_not_reach_the_servers_log(server: ServerProcess, private: PortInfo) -> None:
    door, token = Visitor.of(server, private), private.token or ""

    door.ask(f"/cut-short-not?{TOKEN}={token}")
    door.ask("/garbage", headers={TOKEN: token})

    assert token not in server.log.read_text()


def test_answers_do_not_tell_of_the_address_to_other_sites(visitor: Visitor) -> None:
    assert visitor.ask("/plain").header("referrer-policy") == "same-origin"
    assert visitor.ask("/policy").all("referrer-policy") == ["origin"]


# Names


@pytest.mark.parametrize(
    "host",
    [
        f"3000-{LABEL}.localhost",
        f"65536-{LABEL}.localhost",
        f"99999999-{LABEL}.localhost",
        f"0-{LABEL}.localhost",
        f"03000-{LABEL}.localhost",
        "3000-.localhost",
        "3000-..localhost",
        f"3000-{LABEL}.x.localhost",
        f"3000-{LABEL}-x.localhost",
        f"3000-{'a' * 200}.localhost",
        "3000-sb_0000000000.localhost",
        "7420-localhost.localhost",
    ],
)
def test_name_that_is_none_gets_the_answer_of_any_other(
    server: ServerProcess, stranger: Visitor, host: str
) -> None:
    expected = told(stranger.ask("/v1/health"))

    for form in (host, host.upper(), host + ".", f"{host}:{server.port}", f"{host}:1"):
        assert told(Visitor(server.port, form).ask("/v1/health")) == expected


@pytest.mark.parametrize(
    "name", [f"3000-{LABEL}", f"65536-{LABEL}", "3000-", "x", "", "..", "%2e%2e", "3000-%61"]
)
def test_path_that_names_none_gets_the_same_answer(
    server: ServerProcess, stranger: Visitor, name: str
) -> None:
    by_path = Visitor(server.port, f"127.0.0.1:{server.port}", f"/p/{name}")

    assert told(by_path.ask("/")) == told(stranger.ask("/"))


def test_ports_of_a_sandbox_that_are_not_exposed_are_not_reached(
    server: ServerProcess, sandbox: Sandbox, visitor: Visitor
) -> None:
    label = visitor.host.partition("-")[2]

    for port in (PRIVATE_PORT, 22, 7420, server.port, 65535):
        assert Visitor(server.port, f"{port}-{label}").ask("/plain").status == 404


def test_unknown_and_private_names_take_the_same_time(
    server: ServerProcess, private: PortInfo, stranger: Visitor
) -> None:
    door = Visitor.of(server, private)

    def typical(visit: Callable[[], Answered]) -> float:
        taken = []
        for _ in range(60):
            begun = time.perf_counter()
            visit()
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken)

    known = typical(lambda: door.ask("/", headers={TOKEN: "0." + "A" * 43}))
    unknown = typical(lambda: stranger.ask("/", headers={TOKEN: "0." + "A" * 43}))

    # Dialling the sandbox for either would show as many times this.
    assert 0.4 < known / unknown < 2.5


def test_headers_do_not_choose_the_preview(stranger: Visitor, visitor: Visitor) -> None:
    claims = {
        "X-Forwarded-Host": visitor.host,
        "Forwarded": f"host={visitor.host}",
        "X-Host": visitor.host,
        "X-Original-URL": "/plain",
    }

    assert stranger.ask("/plain", headers=claims).status == 404


def test_visitors_do_not_choose_what_the_program_is_told_of_them(visitor: Visitor) -> None:
    claims = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Real-IP": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
    }

    answer = visitor.ask("/", headers=claims)

    assert answer.told_header("x-forwarded-for") == ["127.0.0.1"]
    assert b"6.6.6.6" not in answer.body
    assert b"evil" not in answer.body
    assert b"gopher" not in answer.body


# The API


def test_api_is_not_reached_under_the_name_of_a_preview(
    server: ServerProcess, visitor: Visitor, stranger: Visitor
) -> None:
    key = {"Authorization": f"Bearer {server.api_key}"}

    assert visitor.ask("/v1/sandboxes", headers=key).told["target"] == "/v1/sandboxes"
    assert stranger.ask("/v1/sandboxes", headers=key).status == 404
    assert stranger.ask("/v1/health").status == 404


def test_key_of_the_api_does_not_reach_a_program(server: ServerProcess, visitor: Visitor) -> None:
    of_ours = visitor.ask("/", headers={"Authorization": f"Bearer {server.api_key}"})
    of_theirs = visitor.ask("/", headers={"Authorization": "Bearer theirs"})

    assert server.api_key.encode() not in of_ours.body
    assert of_theirs.told_header("authorization") == ["Bearer theirs"]


def test_preview_does_not_follow_where_a_program_sends_it(
    server: ServerProcess, visitor: Visitor
) -> None:
    target = f"http://127.0.0.1:{server.port}/v1/health"

    answer = visitor.ask(f"/redirect?{target}")

    assert (answer.status, answer.header("location"), answer.body) == (302, target, b"")


@pytest.mark.parametrize(
    "target", ["http://evil.example/plain", "//evil.example/plain", "/../../v1/health", "*"]
)
def test_target_of_a_request_does_not_lead_out_of_the_preview(
    visitor: Visitor, target: str
) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: {visitor.host}\r\nConnection: close\r\n\r\n"

    answer = visitor.say(request.encode())

    if answer.status == 200:
        assert answer.header("referrer-policy") is not None
        assert b"sandboxes" not in answer.body
    else:
        assert answer.status in (400, 404)


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Host: other",
        "Transfer-Encoding: chunked, identity",
        "X-A: b\r\n continued",
        "X-A : b",
        "X-A: b\rX-B: c",
    ],
)
def test_ambiguous_request_does_not_reach_the_program(visitor: Visitor, head: str) -> None:
    body = "0\r\n\r\nGET /go HTTP/1.1\r\nHost: x\r\n\r\n"
    request = f"POST / HTTP/1.1\r\nHost: {visitor.host}\r\n{head}\r\n\r\n{body}"

    assert visitor.say(request.encode()).status == 400


def test_trailer_of_a_request_opens_no_private_port(
    server: ServerProcess, private: PortInfo
) -> None:
    door = Visitor.of(server, private)
    head = f"POST /who HTTP/1.1\r\nHost: {door.host}\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = door.say(f"{head}0\r\n{TOKEN}: {private.token}\r\n\r\n".encode())

    assert answer.status == 404


def test_endless_trailers_are_refused(visitor: Visitor) -> None:
    head = f"POST /hang HTTP/1.1\r\nHost: {visitor.host}\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = visitor.say(head.encode() + b"0\r\n" + b"X-A: b\r\n" * 10_000)

    assert answer.status == 400


# Programs that misbehave


@pytest.mark.parametrize(
    "path",
    [
        "/split-header",
        "/split-nul",
        "/two-lengths",
        "/length-and-chunks",
        "/bad-length",
        "/bad-coding",
        "/nothing",
        "/garbage",
        "/huge-head",
        "/many-headers",
        "/switch",
    ],
)
def test_answer_that_is_none_is_not_passed_on(visitor: Visitor, path: str) -> None:
    answer = visitor.ask(path)

    assert answer.status == 502
    assert b"did not answer as it must" in answer.body
    assert answer.header("set-cookie") is None


def test_program_cannot_smuggle_a_second_answer(visitor: Visitor) -> None:
    request = f"GET %s HTTP/1.1\r\nHost: {visitor.host}\r\n\r\n"

    with visitor.connect() as peer:
        peer.sendall((request % "/split-body").encode())
        first = read_answer(peer)
        peer.sendall((request % "/plain").encode())
        second = read_answer(peer)

    assert (first.body, second.body) == (b"first", b"hello")


@pytest.mark.parametrize("path", ["/cut-short", "/cut-chunks", "/bad-chunk"])
def test_half_an_answer_is_not_taken_for_a_whole_one(visitor: Visitor, path: str) -> None:
    with visitor.connect() as peer:
        head = f"GET {path} HTTP/1.1\r\nHost: {visitor.host}\r\nConnection: close\r\n\r\n"
        peer.sendall(head.encode())
        received = peer.makefile("rb").read()

    assert received.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 502 "))
    assert not received.endswith(b"0\r\n\r\n")
    assert b"content-length: 9\r\n" not in received


def test_program_does_not_set_cookies_beyond_its_host(visitor: Visitor) -> None:
    cookies = visitor.ask("/cookies").all("set-cookie")

    assert cookies == ["a=1; Path=/; HttpOnly", "b=2"]


def test_program_does_not_speak_for_other_ports_or_hosts(visitor: Visitor) -> None:
    answer = visitor.ask("/hop-by-hop")

    assert answer.header("x-kept") == "1"
    for name in ("x-secret", "keep-alive", "alt-svc", "strict-transport-security"):
        assert answer.header(name) is None


# Beside each other


def test_previews_by_path_have_no_origin_in_common(server: ServerProcess, sandbox: Sandbox) -> None:
    by_path = Visitor.by_path(server, sandbox.expose_port(PORT))

    for path in ("/plain", "/cookies", "/hop-by-hop", "/status", "/local-redirect"):
        answer = by_path.ask(path, headers={"Cookie": "of=another"})
        (policy,) = answer.all("content-security-policy")
        assert policy.startswith("sandbox ")
        assert "allow-same-origin" not in policy
        assert answer.all("set-cookie") == []
        assert answer.header("clear-site-data") is None
    assert by_path.ask("/", headers={"Cookie": "of=another"}).told_header("cookie") == []


def test_previews_by_host_have_each_an_origin_of_its_own(
    client: Atoll, sandbox: Sandbox, runtime: str
) -> None:
    with client.sandboxes.create("host", runtime=runtime) as other:
        exposed = [
            sandbox.expose_port(PORT),
            sandbox.expose_port(PRIVATE_PORT, private=True),
            other.expose_port(PORT),
        ]

    assert len({port.url for port in exposed}) == 3


def test_url_of_a_sandbox_that_has_ended_does_not_reach_its_successor(
    server: ServerProcess, client: Atoll, runtime: str, stranger: Visitor
) -> None:
    with client.sandboxes.create("host", runtime=runtime) as first:
        serve_app(first, PORT)
        old = Visitor.of(server, first.expose_port(PORT))
        assert old.ask("/plain").status == 200
    with client.sandboxes.create("host", runtime=runtime) as second:
        serve_app(second, PORT)
        new = Visitor.of(server, second.expose_port(PORT))

        assert new.ask("/plain").status == 200
        assert told(old.ask("/plain")) == told(stranger.ask("/plain"))


def test_websocket_does_not_open_for_strangers(
    server: ServerProcess, private: PortInfo, stranger: Visitor
) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    door = Visitor.of(server, private)

    without = door.ask("/ws", headers=upgrade)

    assert without.status == 404
    assert without.body == stranger.ask("/v1/x", headers=upgrade).body
    with door.connect() as peer:
        named = {"Host": door.host, **upgrade, TOKEN: private.token or ""}
        lines = ["GET /ws HTTP/1.1", *map(": ".join, named.items()), "", ""]
        peer.sendall("\r\n".join(lines).encode())
        assert peer.recv(1000).startswith(b"HTTP/1.1 101 ")
