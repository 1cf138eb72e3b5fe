# SPDX-License-Identifier: Apache-2.0
"""Requests that two programs could read differently are refused, and what hides behind them is not carried out."""

from __future__ import annotations

import pytest

from tests.support.api import Api
from tests.support.server import ServerProcess

LIST = b"GET /v1/sandboxes?limit=1 HTTP/1.1\r\n"
MAKE = b"POST /v1/sandboxes HTTP/1.1\r\n"
HOST, CLOSE, END = b"Host: a\r\n", b"Connection: close\r\n", b"\r\n"
JSON = HOST + b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HIDDEN = LIST + HOST
AMBIGUOUS = {
    # CVE-2026-71554 in the form that it takes here.
    "two hosts": LIST + HOST + b"Host: b\r\n" + CLOSE,
    "the same host twice": LIST + HOST + HOST + CLOSE,
    "hosts in two cases": LIST + HOST + b"hOST: b\r\n" + CLOSE,
    "no host": LIST + CLOSE,
    "a folded header": LIST + HOST + b"X-A: b\r\n Host: c\r\n" + CLOSE,
    "a header with a space": LIST + b"Host : a\r\n" + CLOSE,
    "a bare return": LIST + HOST + b"X-A: b\rHost: c\r\n" + CLOSE,
    "a bare line feed": LIST.replace(b"\r\n", b"\n") + HOST + CLOSE,
    "a NUL": LIST + HOST + b"X-A: b\0c\r\n" + CLOSE,
    "two lengths": MAKE + JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n",
    "the same length twice": MAKE + JSON + b"Content-Length: 2\r\nContent-Length: 2\r\n",
    "a list of lengths": MAKE + JSON + b"Content-Length: 2, 2\r\n",
    "a signed length": MAKE + JSON + b"Content-Length: +2\r\n",
    "a length and chunks": MAKE + JSON + b"Content-Length: 4\r\n" + CHUNKED,
    "chunks and a length": MAKE + JSON + CHUNKED + b"Content-Length: 4\r\n",
    "chunks and another coding": MAKE + JSON + CHUNKED + b"Transfer-Encoding: identity\r\n",
    "chunks behind a tabulator": MAKE + JSON + b"Transfer-Encoding: \x0bchunked\r\n",
    "an unknown coding": MAKE + JSON + b"Transfer-Encoding: xchunked\r\n",
    "a tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + HOST,
}


def authorization(server: ServerProcess) -> bytes:
    return f"Authorization: Bearer {server.api_key}\r\n".encode()


@pytest.mark.parametrize("what", AMBIGUOUS)
def test_a_request_of_two_meanings_is_refused_with_all_behind_it(api: Api, what: str) -> None:
    """Attack 66, as far as it does not need a network inside."""
    key = authorization(api.server)
    body = b"{}0\r\n\r\n" if b"POST" in AMBIGUOUS[what] else b""

    answer = api.send_raw(AMBIGUOUS[what] + key + END + body + HIDDEN + key + END)

    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert b'"pagination"' not in answer


def test_one_host_is_enough_also_for_an_old_client_that_names_none(api: Api) -> None:
    key = authorization(api.server)

    new = api.send_raw(LIST + HOST + key + CLOSE + END)
    old = api.send_raw(LIST.replace(b"1.1", b"1.0") + key + END)

    assert b" 200 " in new[:20]
    assert b" 200 " in old[:20]


@pytest.mark.parametrize("keys", ["wrong first", "wrong last"])
def test_a_second_key_opens_nothing(api: Api, keys: str) -> None:
    wrong = b"Authorization: Bearer wrong\r\n"
    both = [wrong, authorization(api.server)]

    answer = api.send_raw(
        LIST + HOST + b"".join(both if keys == "wrong first" else reversed(both)) + CLOSE + END
    )

    assert answer.startswith(b"HTTP/1.1 401 "), answer[:200]


def test_who_a_request_says_it_is_from_does_not_count(api: Api) -> None:
    """A header that anybody can send is no address: limits of one would be evaded with it, and keys be tried."""
    said = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost", "Forwarded": "for=::1"}

    assert api.call("GET", "/v1/sandboxes", headers=said, key=None).status == 401
