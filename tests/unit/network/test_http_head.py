# SPDX-License-Identifier: Apache-2.0
"""Reading heads of HTTP requests: one reading, or none."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.http_head import MAX_FIELDS, MAX_HEAD, Head, read_head
from atoll_server.network.outcomes import INCOMPLETE, Incomplete, Refused

GET = b"GET /path?q=1 HTTP/1.1\r\nHost: Example.test\r\nAccept: */*\r\n\r\n"


def head_of(data: bytes) -> Head:
    head = read_head(data)
    assert isinstance(head, Head), head
    return head


def with_fields(*fields: bytes, first: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join([first, b"Host: a.test", *fields, b"", b""])


def test_head_has_the_host_in_lower_case_and_its_size() -> None:
    head = head_of(GET + b"more")

    assert (head.method, head.host, head.port, head.body) == ("GET", "example.test", None, 0)
    assert head.size == len(GET)


@given(st.integers(0, len(GET) - 1))
def test_every_beginning_is_incomplete(size: int) -> None:
    assert read_head(GET[:size]) is INCOMPLETE


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_exception(data: bytes) -> None:
    assert isinstance(read_head(data), Head | Incomplete | Refused)


@given(st.binary(max_size=60), st.integers(0, len(GET) - 4))
def test_any_change_is_read_without_an_exception(inserted: bytes, at: int) -> None:
    assert isinstance(read_head(GET[:at] + inserted + GET[at:]), Head | Incomplete | Refused)


@given(st.binary(max_size=60))
def test_forwarded_head_is_read_as_the_same(value: bytes) -> None:
    head = read_head(with_fields(b"X-Any: " + value))

    if isinstance(head, Head):
        again = head_of(head.forwarded)
        assert (again.host, again.method, again.body) == (head.host, head.method, head.body)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"a.test:8080", ("a.test", 8080)),
        (b"93.184.216.34", (ip_address("93.184.216.34"), None)),
        (b"[2606:2800::1]:80", (ip_address("2606:2800::1"), 80)),
    ],
)
def test_host_may_have_a_port_or_be_an_address(host: bytes, expected: object) -> None:
    head = head_of(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")

    assert (head.host, head.port) == expected


def test_forwarded_head_changes_no_protocol() -> None:
    fields = (b"Connection: keep-alive, Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: x", b"X: y")

    head = head_of(with_fields(*fields))

    assert head.forwarded == (
        b"POST / HTTP/1.1\r\nHost: a.test\r\nX: y\r\nConnection: keep-alive\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("first", "fields", "may_keep"),
    [
        (b"GET / HTTP/1.1", (), True),
        (b"POST / HTTP/1.1", (b"Content-Length: 3",), True),
        (b"GET / HTTP/1.1", (b"Connection: x, Close",), False),
        (b"GET / HTTP/1.1", (b"Connection: x", b"Connection: close"), False),
        (b"GET / HTTP/1.0", (b"Connection: keep-alive",), False),
        # Not every server reads these bodies. To one that does not they would be the next request.
        (b"GET / HTTP/1.1", (b"Content-Length: 3",), False),
        (b"DELETE / HTTP/1.1", (b"Content-Length: 3",), False),
        (b"POST / HTTP/1.1", (b"Transfer-Encoding: chunked",), False),
    ],
)
def test_connection_is_kept_where_nothing_is_in_doubt(
    first: bytes, fields: tuple[bytes, ...], may_keep: bool
) -> None:
    head = head_of(with_fields(*fields, first=first))

    assert head.may_keep == may_keep
    assert head.forwarded.endswith(
        b"Connection: keep-alive\r\n\r\n" if may_keep else b"Connection: close\r\n\r\n"
    )


SOCKET = (b"Connection: Upgrade", b"Upgrade: WebSocket", b"Sec-WebSocket-Key: a2V5")


def test_wish_for_a_websocket_is_seen() -> None:
    assert head_of(with_fields(*SOCKET, first=b"GET / HTTP/1.1")).websocket_key == b"a2V5"


@pytest.mark.parametrize(
    ("first", "fields"),
    [
        (b"POST / HTTP/1.1", SOCKET),
        (b"GET / HTTP/1.0", SOCKET),
        (b"GET / HTTP/1.1", (*SOCKET, b"Content-Length: 1")),
        (b"GET / HTTP/1.1", (*SOCKET, b"Transfer-Encoding: chunked")),
        (b"GET / HTTP/1.1", (*SOCKET, b"Upgrade: h2c")),
        (b"GET / HTTP/1.1", (*SOCKET, b"Sec-WebSocket-Key: b3RoZXI=")),
        (b"GET / HTTP/1.1", SOCKET[1:]),
        (b"GET / HTTP/1.1", SOCKET[:2]),
        (b"GET / HTTP/1.1", (SOCKET[0], b"Upgrade: websocket, h2c", SOCKET[2])),
    ],
)
def test_other_wishes_are_none_for_a_websocket(first: bytes, fields: tuple[bytes, ...]) -> None:
    assert head_of(with_fields(*fields, first=first)).websocket_key is None


def test_body_is_told_by_its_length_or_comes_in_chunks() -> None:
    assert head_of(with_fields(b"Content-Length: 12")).body == 12
    assert head_of(with_fields(b"Transfer-Encoding: Chunked")).body is None


def test_url_of_the_same_host_is_a_target() -> None:
    assert head_of(with_fields(first=b"GET http://A.test/x HTTP/1.1")).host == "a.test"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(with_fields(b"Host: a.test"), id="host twice"),
        pytest.param(with_fields(b"Host: b.test"), id="two hosts"),
        pytest.param(with_fields(b"Content-Length: 1", b"Transfer-Encoding: chunked"), id="CL+TE"),
        pytest.param(with_fields(b"Content-Length: 1", b"Content-Length: 1"), id="CL twice"),
        pytest.param(with_fields(b"Content-Length: +1"), id="signed length"),
        pytest.param(with_fields(b"Content-Length: 1, 1"), id="list of lengths"),
        pytest.param(with_fields(b"Content-Length: 0x1"), id="hexadecimal length"),
        pytest.param(with_fields(b"Transfer-Encoding: gzip, chunked"), id="two codings"),
        pytest.param(with_fields(b"Transfer-Encoding: xchunked"), id="unknown coding"),
        pytest.param(
            with_fields(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
            id="TE twice",
        ),
        pytest.param(
            with_fields(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"), id="TE in 1.0"
        ),
        pytest.param(with_fields(b"X: a", b" folded"), id="folded field"),
        pytest.param(with_fields(b"Transfer-Encoding : chunked"), id="space before the colon"),
        pytest.param(with_fields(b"X: a\rb"), id="bare carriage return"),
        pytest.param(with_fields(b"X: a\nHost: b.test"), id="bare line feed"),
        pytest.param(with_fields(b"X: a\0b"), id="zero byte"),
        pytest.param(with_fields(b": empty"), id="field without a name"),
        pytest.param(with_fields(first=b"CONNECT b.test:25 HTTP/1.1"), id="CONNECT"),
        pytest.param(with_fields(first=b"CONNECT a.test:443 HTTP/1.1"), id="CONNECT to the host"),
        pytest.param(with_fields(first=b"GET http://b.test/ HTTP/1.1"), id="URL of another host"),
        pytest.param(with_fields(first=b"GET http://a.test@b.test/ HTTP/1.1"), id="URL with user"),
        pytest.param(with_fields(first=b"GET https://a.test/ HTTP/1.1"), id="URL of TLS"),
        pytest.param(with_fields(first=b"GET a.test HTTP/1.1"), id="target without a slash"),
        pytest.param(with_fields(first=b"GET  / HTTP/1.1"), id="two spaces"),
        pytest.param(with_fields(first=b"GET / HTTP/1.1 "), id="space at the end"),
        pytest.param(with_fields(first=b"GET /"), id="HTTP/0.9"),
        pytest.param(with_fields(first=b"GET / HTTP/2.0"), id="HTTP/2 by its number"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 by its preface"),
        pytest.param(with_fields(first=b"get / HTTP/1.1"), id="method in lower case"),
        pytest.param(b"\r\n" + GET, id="empty line first"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a.test.\r\n\r\n", id="dot at the host's end"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", id="list of hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a.test:0\r\n\r\n", id="port 0"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a.test:\r\n\r\n", id="empty port"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", id="something after a bracket"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: 0x7f.1\r\n\r\n", id="address in hexadecimal"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: 2130706433\r\n\r\n", id="address as a number"),
        pytest.param(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", id="empty host"),
        pytest.param(with_fields(*[b"X: y"] * MAX_FIELDS), id="too many fields"),
        pytest.param(b"GET /" + b"x" * MAX_HEAD, id="too long"),
        pytest.param(b"GET / HTTP/1.1\nHost: a.test\n\n", id="line feeds alone"),
    ],
)
def test_request_that_could_be_read_two_ways_is_refused(data: bytes) -> None:
    assert isinstance(read_head(data), Refused)
