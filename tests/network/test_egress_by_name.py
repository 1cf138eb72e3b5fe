# SPDX-License-Identifier: Apache-2.0
"""A sandbox reaches the names that it may, and not what else is at their addresses."""

from __future__ import annotations

import socket
import ssl
import threading
from urllib.parse import quote

import dns.rcode
import pytest

from atoll_server.network.egress import Egress
from tests.network.conftest import Attach
from tests.support.inside import Inside, seconds_of, told_errors
from tests.support.internet import BANNER_PORT, ECHO_PORT, OTHER, SHARED, Internet
from tests.unit.network.hellos import (
    add_extension,
    cut_into_records,
    made_hello,
    real_hello,
    server_name,
)

ALERT_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"
ALERT_ACCESS_DENIED = b"\x15\x03\x03\x00\x02\x02\x31"
HIDING = add_extension(real_hello("other.test"), 0xFE0D, bytes(200))
"""As browsers begin, whether they hide a name or not."""


@pytest.fixture
def inside(attach: Attach) -> Inside:
    """With `a.test` alone."""
    return attach({"allow": ["a.test"]})[1]


def test_listed_name_is_reached_over_http_and_tls(inside: Inside) -> None:
    assert inside.http("a.test").body == f"a.test at {SHARED}:80"
    assert inside.https("a.test").body == f"a.test at {SHARED}:443"


def test_listed_name_is_reached_in_upper_case(inside: Inside) -> None:
    assert inside.http("A.TEST").status == 200


def test_unlisted_name_does_not_exist_and_the_answer_says_why(inside: Inside) -> None:
    answer = inside.ask("other.test")

    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert "other.test is not allowed" in told_errors(answer)


def test_neighbour_at_a_listed_address_is_denied_over_http(
    inside: Inside, internet: Internet
) -> None:
    response = inside.http("neighbour.test", address=SHARED)

    assert response.status == 403
    assert "neighbour.test port 80 is not allowed" in response.body
    assert response.headers["X-Atoll-Denied"] == "not_listed"
    assert internet.requests == []


def test_neighbour_at_a_listed_address_is_denied_over_tls(inside: Inside) -> None:
    inside.resolve("a.test")

    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        inside.https("neighbour.test", address=SHARED)


def test_listed_address_without_a_server_name_is_denied(inside: Inside) -> None:
    inside.resolve("a.test")

    assert inside.exchange(SHARED, 443, real_hello(None)) == ALERT_UNRECOGNIZED_NAME


def test_address_in_place_of_a_name_is_denied(inside: Inside, internet: Internet) -> None:
    inside.resolve("a.test")

    assert inside.http(SHARED, address=SHARED).status == 403
    assert internet.requests == []


def test_listed_name_at_an_address_that_is_not_its_own_is_denied(
    inside: Inside, internet: Internet
) -> None:
    response = inside.http("a.test", address=OTHER)

    assert response.status == 403
    assert f"{OTHER} is not an address of a.test" in response.body
    assert internet.requests == []


def test_address_that_a_program_has_kept_is_asked_for_again(inside: Inside) -> None:
    """Its own resolver was not asked in this sandbox."""
    assert inside.https("a.test", address=SHARED).status == 200


def test_wildcard_is_for_what_is_below_it(attach: Attach) -> None:
    _, inside = attach({"allow": ["*.w.test"]})

    assert inside.https("x.w.test").status == 200
    assert inside.resolve("w.test") == []


def test_hello_in_many_segments_is_read_whole(inside: Inside) -> None:
    address = inside.resolve("a.test")[0]
    hello = cut_into_records(real_hello("a.test"), [1, 2, 3, 60])
    with inside.connect(address, 443) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in hello:
            connection.sendall(bytes([byte]))

        assert connection.recv(1) == b"\x16"


def test_denied_name_in_many_records_stays_denied(inside: Inside) -> None:
    address = inside.resolve("a.test")[0]
    hello = cut_into_records(real_hello("neighbour.test"), [1] * 10)

    assert inside.exchange(address, 443, hello) == ALERT_UNRECOGNIZED_NAME


@pytest.mark.parametrize(
    "hello",
    [
        pytest.param(made_hello(server_name(b"a.test"), (0xFE0D, b"x")), id="hidden"),
        pytest.param(made_hello(server_name(b"a.test", b"neighbour.test")), id="ambiguous"),
        pytest.param(b"\x16\x03\x01\xff\xff" + bytes(200), id="too long"),
        pytest.param(real_hello("a.test")[:60], id="cut short"),
    ],
)
def test_hello_that_cannot_be_read_is_denied(inside: Inside, hello: bytes) -> None:
    address = inside.resolve("a.test")[0]

    assert inside.exchange(address, 443, hello) == ALERT_ACCESS_DENIED


def test_browser_gets_through_where_everything_is_allowed(attach: Attach) -> None:
    _, inside = attach("allow")

    with inside.connect(OTHER, 443) as connection:
        connection.sendall(HIDING)
        assert connection.recv(1) == b"\x16"


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param({"default": "allow", "deny": ["evil.test"]}, id="a denied name"),
        pytest.param({"allow": ["other.test"]}, id="allowed names"),
    ],
)
def test_hidden_name_is_refused_where_names_decide(attach: Attach, policy: object) -> None:
    _, inside = attach(policy)
    inside.resolve("other.test")

    assert inside.exchange(OTHER, 443, HIDING) == ALERT_ACCESS_DENIED


def test_no_name_server_tells_how_to_hide(attach: Attach, internet: Internet) -> None:
    """The keys with which a browser would hide a name stand in these records."""
    _, inside = attach("allow")

    for kind in ("HTTPS", "SVCB"):
        assert inside.ask("a.test", kind).answer == []
    assert internet.questions == []


def test_hello_of_more_than_a_record_is_denied(inside: Inside) -> None:
    address = inside.resolve("a.test")[0]
    long = made_hello(server_name(b"a.test"), (21, bytes(17_000)))

    assert inside.exchange(address, 443, cut_into_records(long, [16_000])) == ALERT_ACCESS_DENIED


def test_what_is_not_tls_is_refused_at_its_port(inside: Inside) -> None:
    address = inside.resolve("a.test")[0]

    with pytest.raises(ConnectionResetError):
        inside.exchange(address, 443, b"SSH-2.0-x\r\n")


def test_quic_is_refused_at_once(inside: Inside) -> None:
    address = inside.resolve("a.test")[0]

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(10)
            datagrams.connect((address, 443))
            datagrams.send(b"\xc0" + bytes(1200))
            datagrams.recv(1)

    def refuse() -> None:
        with pytest.raises(ConnectionRefusedError):
            inside.run(send)

    assert seconds_of(refuse) < 5


def test_redirect_to_a_denied_host_ends_there(inside: Inside, internet: Internet) -> None:
    first = inside.http("a.test", path=f"/redirect/{quote('http://other.test/', safe='')}")

    assert (first.status, first.headers["Location"]) == (302, "http://other.test/")
    assert inside.resolve("other.test") == []
    assert inside.http("other.test", address=OTHER).status == 403
    assert [line for line in internet.requests if "other.test " in line] == []


def test_second_request_of_a_connection_reaches_nobody(inside: Inside, internet: Internet) -> None:
    """The first decides where the connection goes; so the second could be to a neighbour."""
    address = inside.resolve("a.test")[0]
    both = b"GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: neighbour.test\r\n\r\n"

    received = inside.exchange(address, 80, both)

    assert received.count(b"HTTP/1.1 200") == 1
    assert internet.requests == [f"{SHARED}:80 a.test /1"]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", id="CL+TE"),
        pytest.param(b"Host: neighbour.test\r\n", id="two hosts"),
        pytest.param(b"X: a\r\n Host: neighbour.test\r\n", id="folded"),
        pytest.param(b"X: a\nHost: neighbour.test\r\n", id="line feed"),
    ],
)
def test_ambiguous_request_is_a_bad_one(inside: Inside, internet: Internet, fields: bytes) -> None:
    address = inside.resolve("a.test")[0]

    received = inside.exchange(
        address, 80, b"GET / HTTP/1.1\r\nHost: a.test\r\n" + fields + b"\r\n"
    )

    assert received.startswith(b"HTTP/1.1 400 ")
    assert internet.requests == []


def test_proxy_request_is_a_bad_one(inside: Inside) -> None:
    address = inside.resolve("a.test")[0]

    received = inside.exchange(
        address, 80, b"CONNECT a.test:25 HTTP/1.1\r\nHost: a.test:25\r\n\r\n"
    )

    assert received.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"Content-Length: 5\r\n\r\nhello", id="length"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", id="chunks"),
    ],
)
def test_body_passes(inside: Inside, sent: bytes) -> None:
    address = inside.resolve("a.test")[0]

    received = inside.exchange(address, 80, b"POST / HTTP/1.1\r\nHost: a.test\r\n" + sent)

    assert received.endswith(f"a.test at {SHARED}:80hello".encode())


def test_port_that_is_not_listed_is_refused(inside: Inside, attach: Attach) -> None:
    address = inside.resolve("a.test")[0]

    with pytest.raises(ConnectionResetError):
        inside.exchange(address, ECHO_PORT, b"hello")


def test_listed_port_passes_what_is_neither_tls_nor_http(attach: Attach) -> None:
    _, inside = attach({"allow": [f"a.test:{ECHO_PORT}"]})
    address = inside.resolve("a.test")[0]

    assert inside.exchange(address, ECHO_PORT, b"hello") == b"hello"


def test_listed_port_passes_a_server_that_speaks_first(attach: Attach) -> None:
    _, inside = attach({"allow": [f"a.test:{BANNER_PORT}"]})
    address = inside.resolve("a.test")[0]

    with inside.connect(address, BANNER_PORT) as connection:
        assert connection.recv(100) == b"220 ready\r\n"


def test_listed_port_at_an_address_that_nobody_asked_for_is_refused(attach: Attach) -> None:
    _, inside = attach({"allow": [f"a.test:{ECHO_PORT}"]})

    with pytest.raises(ConnectionResetError):
        inside.exchange(OTHER, ECHO_PORT, b"hello")


def test_megabytes_pass_both_ways_unchanged(attach: Attach) -> None:
    _, inside = attach({"allow": [SHARED]})
    sent = bytes(range(256)) * 4096 * 4

    assert _send_and_receive(inside.connect(SHARED, ECHO_PORT), sent) == sent


def test_denied_name_is_denied_where_everything_else_is_allowed(attach: Attach) -> None:
    _, inside = attach({"default": "allow", "deny": ["evil.test"]})

    assert inside.https("other.test").status == 200
    assert inside.resolve("evil.test") == []
    with pytest.raises(ssl.SSLError, match="ACCESS_DENIED"):
        inside.https("evil.test", address=OTHER)


def test_fronting_shows_in_plain_http_and_is_not_seen_in_tls(attach: Attach) -> None:
    """What stands inside TLS is not inspected, which the documentation says."""
    _, inside = attach({"allow": ["a.test"]})

    assert inside.https("neighbour.test", address=SHARED, sni="a.test").status == 200
    assert inside.http("neighbour.test", address=SHARED).status == 403


def test_what_was_refused_is_counted_and_told(attach: Attach, egress: Egress) -> None:
    sandbox_id, inside = attach({"allow": ["a.test"]})
    inside.ask("other.test")
    inside.http("neighbour.test", address=SHARED)
    assert inside.http("a.test").status == 200

    report = egress.report(sandbox_id)

    assert report.statistics.denied == {"not_listed": 2}
    assert [(each["destination"], each["port"]) for each in report.denials] == [
        ("other.test", 53),
        ("neighbour.test", 80),
    ]
    assert report.statistics.connections == 2
    assert report.statistics.bytes_received > 0


def _send_and_receive(connection: socket.socket, sent: bytes) -> bytes:
    with connection:
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        received = bytearray()
        while len(received) < len(sent) and (piece := connection.recv(1 << 20)):
            received += piece
        sender.join()
    return bytes(received)
