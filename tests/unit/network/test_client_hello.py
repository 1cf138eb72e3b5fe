# SPDX-License-Identifier: Apache-2.0
"""Reading ClientHellos: found however they are cut, refused whenever there is doubt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.client_hello import MAX_HELLO, Hello, read_client_hello
from atoll_server.network.outcomes import INCOMPLETE, Incomplete, Refused
from tests.unit.network.hellos import cut_into_records, made_hello, real_hello, record, server_name

NAME = "example.test"
REAL = real_hello(NAME)
NAMELESS = real_hello(None)
# The offset of a change, and what the byte there becomes.
changes = st.lists(
    st.tuples(st.integers(0, len(REAL) - 1), st.integers(0, 255)), min_size=1, max_size=4
)


def test_name_is_found_in_a_real_hello() -> None:
    assert read_client_hello(REAL) == Hello(NAME)


def test_hello_without_a_name_is_read_as_one() -> None:
    assert read_client_hello(NAMELESS) == Hello(None)


def test_name_is_one_in_lower_case() -> None:
    assert read_client_hello(made_hello(server_name(b"ExAmple.TEST"))) == Hello(NAME)


@given(st.integers(0, len(REAL) - 1))
def test_every_beginning_is_incomplete(size: int) -> None:
    assert read_client_hello(REAL[:size]) is INCOMPLETE


@given(st.lists(st.integers(1, 200), max_size=30), st.binary(max_size=50))
def test_name_is_found_however_the_message_is_cut(sizes: list[int], after: bytes) -> None:
    assert read_client_hello(cut_into_records(REAL, sizes) + after) == Hello(NAME)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_an_exception(data: bytes) -> None:
    assert isinstance(read_client_hello(data), Hello | Incomplete | Refused)


@given(st.binary(max_size=200))
def test_any_extensions_are_read_without_an_exception(data: bytes) -> None:
    hello = made_hello()[:-2] + len(data).to_bytes(2) + data

    outcome = read_client_hello(record(b"\x01" + (len(hello) - 9).to_bytes(3) + hello[9:]))

    assert isinstance(outcome, Hello | Refused)


@given(changes)
def test_changed_hello_never_shows_a_name_that_is_not_in_it(
    changes: list[tuple[int, int]],
) -> None:
    data = bytearray(REAL)
    for offset, value in changes:
        data[offset] = value

    outcome = read_client_hello(data)

    if isinstance(outcome, Hello) and outcome.name is not None:
        assert outcome.name.encode() in bytes(data).lower()


@pytest.mark.parametrize(
    "extensions",
    [
        pytest.param([server_name(b"a.test", b"b.test")], id="two names"),
        pytest.param([server_name(b"a.test"), server_name(b"b.test")], id="two lists of names"),
        pytest.param([server_name(b"a.test", kind=1)], id="a name of another kind"),
        pytest.param([server_name()], id="an empty list"),
        pytest.param([server_name(b"")], id="an empty name"),
        pytest.param([server_name(b"a.test.")], id="a dot at the end"),
        pytest.param([server_name(b"a.test\0.b.test")], id="a zero byte"),
        pytest.param([server_name(b"a..test")], id="an empty label"),
        pytest.param([server_name("bücher.test".encode())], id="not ASCII"),
        pytest.param([server_name(b"127.0.0.1")], id="an address"),
        pytest.param([server_name(b"2130706433")], id="an address as a number"),
        pytest.param([(0, b"\x00\x00\x00")], id="something after the list"),
        pytest.param([(0, b"\x00\x09\x00\x00\x06a.test\x00")], id="a list longer than its data"),
        pytest.param([server_name(b"a.test"), (0xFE0D, b"x")], id="encrypted ClientHello"),
        pytest.param([server_name(b"a.test"), (0xFFCE, b"x")], id="encrypted server name"),
        pytest.param([(10, b""), (10, b"")], id="any extension twice"),
    ],
)
def test_doubtful_name_is_refused(extensions: list[tuple[int, bytes]]) -> None:
    assert isinstance(read_client_hello(made_hello(*extensions)), Refused)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x80\x2e\x01\x03\x01", id="SSLv2"),
        pytest.param(b"\x16\x02\x00", id="an unknown version"),
        pytest.param(b"\x16\x03\x01\x00\x00", id="an empty record"),
        pytest.param(b"\x16\x03\x01\x40\x01", id="a record too long"),
        pytest.param(record(b"\x02\x00\x00\x00"), id="another message"),
        pytest.param(record(b"\x01\x00") + record(b"\x00", kind=21), id="an alert in its midst"),
        pytest.param(record(b"\x01\x00") + record(b"", kind=23), id="data in its midst"),
        pytest.param(made_hello(server_name(b"a.test"), tail=b"x"), id="a tail"),
    ],
)
def test_what_is_no_sound_hello_is_refused(data: bytes) -> None:
    assert isinstance(read_client_hello(data), Refused)


def test_hello_in_too_many_records_is_refused() -> None:
    assert isinstance(read_client_hello(cut_into_records(REAL, [1] * 100)), Refused)


def test_hello_that_is_too_long_is_refused_by_its_first_bytes() -> None:
    beginning = record(b"\x01" + (MAX_HELLO + 1).to_bytes(3))

    assert isinstance(read_client_hello(beginning), Refused)


def test_refusal_of_a_hidden_name_says_what_to_turn_off() -> None:
    outcome = read_client_hello(made_hello((0xFE0D, b"")))

    assert isinstance(outcome, Refused)
    assert "encrypted ClientHello" in outcome.why
