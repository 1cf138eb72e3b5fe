# SPDX-License-Identifier: Apache-2.0
"""What a connection to a host of a secret may carry: one request after the other, a WebSocket, and nothing in doubt."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from atoll import Atoll, Sandbox, Secret
from tests.support.asking import ASK_MANY, SOCKET, SPEAK
from tests.support.internet import SHARED, Internet
from tests.support.server import ServerProcess

VALUE = "sk-the-real-value-of-this-secret-0123456789-abcdef"
OTHER_VALUE = "another-value-that-nobody-inside-may-see"
SECRETS = {
    "API_KEY": Secret(VALUE, hosts=["a.test"]),
    "STRICT": Secret(OTHER_VALUE, hosts=["other.test"], header="X-Token"),
}
GET = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
HERE = f"a.test at {SHARED}:443"
CLOSED = [8, "\x03\xe8"]

Asked = list[tuple[str, dict[str, str], str]]
Answers = list[tuple[int, dict[str, str], str]]


@pytest.fixture
def client(trusting: ServerProcess, internet: Internet) -> Iterator[Atoll]:
    for kept in (internet.heard, internet.bodies, internet.requests, internet.clients):
        kept.clear()
    with Atoll(api_url=f"unix://{trusting.socket}", api_key=trusting.api_key) as client:
        yield client


@pytest.fixture
def sandbox(client: Atoll, runtime: str) -> Iterator[Sandbox]:
    policy = {"allow": ["a.test", "neighbour.test", "other.test"]}
    with client.sandboxes.create(
        "host", runtime=runtime, network=policy, secrets=SECRETS
    ) as sandbox:
        yield sandbox


@pytest.fixture
def placeholder(sandbox: Sandbox) -> str:
    return sandbox.exec("printf %s $API_KEY").stdout


def ask_many(
    sandbox: Sandbox, asked: Asked, host: str = "a.test", scheme: str = "https"
) -> tuple[int, Answers]:
    """How many connections it took, and what was answered."""
    done = sandbox.exec(["python3", "-c", ASK_MANY, host, scheme, json.dumps(asked)])
    assert done.exit_code == 0, done.stderr
    connections, answers = json.loads(done.stdout)
    return connections, [tuple(answer) for answer in answers]


def test_requests_follow_one_another_on_a_connection(
    sandbox: Sandbox, internet: Internet, placeholder: str
) -> None:
    bearer = {"Authorization": f"Bearer {placeholder}"}
    asked: Asked = [
        ("/", bearer, ""),
        ("/mirror", bearer, ""),
        ("/mirror/chunked", bearer, ""),
        ("/", {}, "body"),
        ("/", bearer, ""),
    ]

    connections, answers = ask_many(sandbox, asked)

    assert [status for status, _, _ in answers] == [200] * 5
    assert [answers[at][2] for at in (0, 3, 4)] == [HERE, HERE + "body", HERE]
    assert (connections, len(set(internet.clients))) == (1, 1)
    assert [it.get("Authorization") for it in internet.heard] == [
        *[f"Bearer {VALUE}"] * 3,
        None,
        f"Bearer {VALUE}",
    ]
    assert VALUE not in json.dumps(answers)
    assert placeholder in answers[1][2]
    assert placeholder in answers[2][2]


def test_connection_of_the_client_ends_with_the_host_s(
    sandbox: Sandbox, internet: Internet
) -> None:
    connections, answers = ask_many(sandbox, [("/", {}, ""), ("/last", {}, ""), ("/", {}, "")])

    assert [status for status, _, _ in answers] == [200] * 3
    assert answers[1][1]["Connection"] == "close"
    assert (connections, len(set(internet.clients))) == (2, 2)


@pytest.mark.parametrize(
    ("path", "host", "fields"),
    [
        ("/?key={held}", "a.test", {}),
        ("/", "other.test", {"Authorization": "{held}"}),
        ("/", "a.test", {"Host": "neighbour.test"}),
    ],
)
def test_every_request_is_judged_by_itself(
    sandbox: Sandbox,
    internet: Internet,
    placeholder: str,
    path: str,
    host: str,
    fields: dict[str, str],
) -> None:
    fields = {name: value.format(held=placeholder) for name, value in fields.items()}
    asked: Asked = [("/", {}, ""), (path.format(held=placeholder), fields, ""), ("/", {}, "")]

    _, answers = ask_many(sandbox, asked, host)

    assert [status for status, _, _ in answers] == [200, 403, 200]
    assert [line.split()[1:] for line in internet.requests] == [[host, "/"]] * 2


def test_requests_sent_ahead_are_answered_in_their_order(
    sandbox: Sandbox, internet: Internet
) -> None:
    post = "POST /{} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\n{}"
    ahead = "".join(post.format(number, number) for number in range(5))
    last = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")

    done = sandbox.exec(["python3", "-c", SPEAK, "a.test", ahead + last])

    assert done.stdout.count("HTTP/1.1 200 OK") == 6, done.stderr
    assert internet.bodies == [b"0", b"1", b"2", b"3", b"4", b""]
    assert len(set(internet.clients)) == 1


@pytest.mark.parametrize(
    ("behind", "status"),
    [
        ("GET /second HTTP/1.1\r\nHost: neighbour.test\r\n\r\n", 403),
        ("GET /second HTTP/1.1\r\nHost: a.test\r\nContent-Length: +1\r\n\r\n", 400),
        ("second\r\n\r\n", 400),
    ],
)
def test_doubtful_request_behind_another_is_refused(
    sandbox: Sandbox, internet: Internet, behind: str, status: int
) -> None:
    done = sandbox.exec(["python3", "-c", SPEAK, "a.test", GET + behind + GET])

    assert done.stdout.count("HTTP/1.1 ") == 2, done.stderr
    assert f"HTTP/1.1 {status} " in done.stdout
    assert [line.split()[-1] for line in internet.requests] == ["/"]


@pytest.mark.parametrize(
    "first",
    [
        GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
        GET.replace("1.1", "1.0"),
        GET.replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx"),
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ],
)
def test_nothing_is_sent_behind_a_last_request(
    sandbox: Sandbox, internet: Internet, first: str
) -> None:
    done = sandbox.exec(["python3", "-c", SPEAK, "a.test", first + GET])

    assert done.stdout.count("HTTP/1.1 ") == 1, done.stderr
    assert len(internet.requests) == 1
    assert internet.heard[0]["Connection"] == "close"


def test_requests_in_the_clear_follow_one_another(sandbox: Sandbox, internet: Internet) -> None:
    asked: Asked = [("/", {}, ""), ("/", {}, "body"), ("/last", {}, ""), ("/", {}, "")]

    connections, answers = ask_many(sandbox, asked, "neighbour.test", "http")

    assert [status for status, _, _ in answers] == [200] * 4
    assert (connections, len(set(internet.clients))) == (2, 2)


def test_later_requests_in_the_clear_are_judged_as_the_first(
    sandbox: Sandbox, internet: Internet, placeholder: str
) -> None:
    asked: Asked = [
        ("/", {}, ""),
        ("/", {"X-Any": placeholder}, ""),
        ("/", {}, ""),
        ("/", {"Host": "a.test"}, ""),
    ]

    _, answers = ask_many(sandbox, asked, "neighbour.test", "http")

    assert [status for status, _, _ in answers] == [200, 403, 200, 403]
    assert "placeholder of" in answers[1][2] or "stays here" in answers[1][2]
    assert [line.split()[1] for line in internet.requests] == ["neighbour.test"] * 2
    assert sandbox.network.report().denied == {"secret_misplaced": 1, "host_not_of_connection": 1}


def open_socket(
    sandbox: Sandbox, said: list[object], path: str = "/socket", fields: str = ""
) -> tuple[str, str, list[object]]:
    """The protocol that was agreed on, the head that was answered, and what was heard."""
    argv = ["python3", "-c", SOCKET, "a.test", path, json.dumps(said), fields]
    done = sandbox.exec(argv)
    assert done.exit_code == 0, done.stderr
    protocol, head, heard = json.loads(done.stdout)
    return protocol, head, heard


BEARER = "Authorization: Bearer $API_KEY\r\n"


def test_websocket_gets_the_secret_and_tells_a_placeholder(
    sandbox: Sandbox, internet: Internet, placeholder: str
) -> None:
    _, head, heard = open_socket(sandbox, ["hello", "who", "s", "sk-the"], fields=BEARER)

    assert head.startswith("HTTP/1.1 101 ")
    kept = f"Bearer {placeholder[: len(VALUE)].ljust(len(VALUE), '*')}"
    expected = [[2, "hello"], [1, kept], [0, kept], [2, "s"], [2, "sk-the"], CLOSED, True]
    assert heard == expected
    assert internet.heard[0]["Authorization"] == f"Bearer {VALUE}"
    assert "Sec-WebSocket-Extensions" not in internet.heard[0]


def test_much_goes_through_a_websocket(sandbox: Sandbox) -> None:
    _, _, heard = open_socket(sandbox, [100_000, 100_000])

    assert heard == [[2, 100_000], [2, 100_000], CLOSED, True]
    assert sandbox.network.report().sent_bytes > 200_000
    assert sandbox.network.report().received_bytes > 200_000


def test_client_that_offers_http2_speaks_http1(sandbox: Sandbox) -> None:
    protocol, head, _ = open_socket(sandbox, [])

    assert (protocol, head.split()[1]) == ("http/1.1", "101")


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/", "", 200),
        ("/socket/rude", "", 502),
        ("/socket?key=$API_KEY", "", 403),
        ("/socket", "X-Token: $STRICT\r\n", 403),
    ],
)
def test_answer_that_is_no_websocket_is_passed_on_or_refused(
    sandbox: Sandbox, path: str, fields: str, status: int
) -> None:
    key = sandbox.exec("printf %s $API_KEY").stdout
    _, head, _ = open_socket(sandbox, [], path.replace("$API_KEY", key), fields)

    assert head.startswith(f"HTTP/1.1 {status} ")


def test_open_websocket_is_cut_when_the_policy_changes(
    sandbox: Sandbox,
) -> None:
    argv = ["python3", "-c", SOCKET, "a.test", "/socket", "[null]", ""]
    process = sandbox.processes.start(argv)
    assert getattr(next(process.stream()), "text", None) == "open\n"

    sandbox.network.update({"allow": ["other.test"]})

    # The reset itself is not shown by OpenSSL, but that it was no end.
    assert "SSLEOFError" in process.wait(timeout_ms=30_000).stderr
