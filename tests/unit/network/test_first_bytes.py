# SPDX-License-Identifier: Apache-2.0
"""What the first bytes of a connection show."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.client_hello import Hello
from atoll_server.network.first_bytes import Opaque, look_at, read_beginning
from atoll_server.network.http_head import Head
from atoll_server.network.outcomes import Incomplete, Refused
from tests.unit.network.hellos import real_hello
from tests.unit.network.sides import open_side, send

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"


@pytest.mark.parametrize("port", [80, 443, 8443])
def test_tls_and_http_are_known_at_every_port(port: int) -> None:
    assert look_at(real_hello("a.test"), port) == Hello("a.test")
    assert isinstance(look_at(GET, port), Head)


@given(st.binary(min_size=1, max_size=200))
def test_nothing_is_opaque_at_a_port_of_the_web(data: bytes) -> None:
    for port in (80, 443):
        assert not isinstance(look_at(data, port), Opaque)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_looked_at_without_an_exception(data: bytes, is_all: bool) -> None:
    shown = look_at(data, 8443, is_all=is_all)

    assert shown is None or isinstance(shown, Hello | Head | Opaque | Incomplete | Refused)


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n", b"*1\r\n$4\r\nPING\r\n", b"EHLO a\r\n", b"\0"])
def test_other_protocols_are_opaque_elsewhere(data: bytes) -> None:
    assert isinstance(look_at(data, 22), Opaque)


@pytest.mark.parametrize("data", [b"G", b"GET", b"GET /", b"\x16", b"\x16\x03\x01"])
def test_beginning_of_tls_or_http_is_waited_for_everywhere(data: bytes) -> None:
    assert isinstance(look_at(data, 8443), Incomplete)
    assert isinstance(look_at(data, 8443, is_all=True), Refused)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\nHost: b.test\n\n", b"PRI * HTTP/2.0\r\n\r\n"])
def test_malformed_http_is_refused_everywhere(data: bytes) -> None:
    assert isinstance(look_at(data, 8443), Refused)


async def test_client_that_leaves_without_a_word_shows_nothing() -> None:
    side, theirs = await open_side()
    theirs.close()

    assert (await read_beginning(side, 443)).shows is None

    side.close()


async def test_client_that_is_too_slow_is_refused() -> None:
    side, theirs = await open_side()
    with theirs:
        await send(theirs, b"GET / HT")

        beginning = await read_beginning(side, 80, timeout=0.01)

        assert isinstance(beginning.shows, Refused)
    side.close()


async def test_silent_client_at_another_port_waits_for_the_server() -> None:
    side, theirs = await open_side()
    with theirs:
        assert isinstance((await read_beginning(side, 25)).shows, Opaque)
    side.close()


async def test_what_was_read_is_kept_with_what_follows() -> None:
    side, theirs = await open_side()
    with theirs:
        await send(theirs, GET + b"more")
        theirs.shutdown(socket.SHUT_WR)

        assert (await read_beginning(side, 80)).data == GET + b"more"
    side.close()
