# SPDX-License-Identifier: Apache-2.0
"""Requests that follow one another in the clear: what is sent is requests for one host, and nothing else, ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.http_body import ChunkedBody, LengthBody, MalformedBody
from atoll_server.network.http_head import Head, read_head
from atoll_server.network.plain import MAX_REQUESTS, Requests
from atoll_server.network.policy import Reason, Verdict
from atoll_server.network.secrets import Secret

PLACEHOLDER = "atoll-secret-0123456789abcdef0123456789abcdef"
SECRET = Secret("KEY", PLACEHOLDER, ("a.test",), None, "the value")
GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
)
FOREIGN = b"GET / HTTP/1.1\r\nHost: b.test\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"

streams = st.lists(
    st.sampled_from(
        [GET, POST, CHUNKED, FOREIGN, LAST, b"\r\n", b"x", b"0\r\n\r\n", b"Host: b\r\n"]
    )
    | st.binary(max_size=12),
    max_size=8,
).map(b"".join)
cuts = st.lists(st.integers(1, 40), max_size=60)


def sent(data: bytes, sizes: list[int], notes: list[Verdict] | None = None) -> tuple[bytes, bool]:
    """What is sent of a stream that begins with a request, cut so; and whether it was cut off."""
    first = read_head(data)
    assert isinstance(first, Head)
    noted: list[Verdict] = [] if notes is None else notes
    requests = Requests(first, (SECRET,), noted.append)
    data = data[first.size :]
    said = b""
    try:
        said = requests.begin(b"")
        for size in [*sizes, len(data) + 1]:
            said += requests.take(data[:size])
            data = data[size:]
    except MalformedBody:
        return said, True
    return said, False


def read_all(data: bytes) -> list[tuple[str, object]]:
    """As a server reads what is sent: the requests in it, none of which may be malformed."""
    found: list[tuple[str, object]] = []
    while data:
        head = read_head(data)
        assert isinstance(head, Head), data
        body = ChunkedBody() if head.body is None else LengthBody(head.body)
        data = data[head.size + len(body.take(data[head.size :])) :]
        found.append((head.method, head.host))
    return found


@given(streams, cuts)
def test_only_requests_for_the_first_host_are_sent(rest: bytes, sizes: list[int]) -> None:
    said, is_cut = sent(GET + rest, sizes)

    if not is_cut:
        assert {host for _, host in read_all(said)} == {"a.test"}


@given(streams, cuts)
def test_same_is_sent_however_it_is_cut(rest: bytes, sizes: list[int]) -> None:
    said, is_cut = sent(GET + rest, sizes)
    whole, whole_is_cut = sent(GET + rest, [])

    assert is_cut == whole_is_cut
    assert is_cut or said == whole


def test_requests_follow_one_another() -> None:
    said, _ = sent(GET + POST + GET + POST, [])

    assert read_all(said) == [("GET", "a.test"), ("POST", "a.test")] * 2


@pytest.mark.parametrize("ending", [LAST, CHUNKED, GET.replace(b"1.1", b"1.0")])
def test_nothing_follows_a_last_request(ending: bytes) -> None:
    said, _ = sent(GET + ending + FOREIGN + GET, [])

    assert len(read_all(said)) == 2
    assert said.count(b"Connection: close\r\n") == 1


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (FOREIGN, Reason.HOST_FOREIGN),
        (b"GET / HTTP/1.1\r\nHost: a.test:8080\r\n\r\n", Reason.HOST_FOREIGN),
        (b"hello\r\n\r\n", Reason.MALFORMED),
        (GET.replace(b"/ ", f"/?k={PLACEHOLDER} ".encode()), Reason.SECRET),
        (
            GET.replace(b"\r\n\r\n", f"\r\nConnection: {PLACEHOLDER}\r\n\r\n".encode()),
            Reason.SECRET,
        ),
    ],
)
def test_second_request_is_judged_by_itself(second: bytes, reason: Reason) -> None:
    notes: list[Verdict] = []

    said, is_cut = sent(GET + second + GET, [7], notes)

    assert (read_all(said), is_cut) == ([("GET", "a.test")], False)
    assert [verdict.reason for verdict in notes] == [reason]


def test_placeholder_in_a_later_body_is_cut_before_it_is_whole() -> None:
    notes: list[Verdict] = []
    body = f"k={PLACEHOLDER}".encode()
    second = POST.replace(b"5\r\n\r\nhello", b"%d\r\n\r\n%s" % (len(body), body))

    said, is_cut = sent(GET + second, [len(second) - 10], notes)

    assert is_cut
    assert PLACEHOLDER.encode() not in said
    assert [verdict.reason for verdict in notes] == [Reason.SECRET]


def test_connection_has_so_many_requests() -> None:
    said, _ = sent(GET * (MAX_REQUESTS + 5), [])

    assert len(read_all(said)) == MAX_REQUESTS
    assert said.endswith(b"Connection: close\r\n\r\n")
