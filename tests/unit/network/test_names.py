# SPDX-License-Identifier: Apache-2.0
"""One spelling for each host name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.names import InvalidName, parse_name, parse_written_name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Example.TEST", "example.test"),
        ("example.test.", "example.test"),
        ("bücher.test", "xn--bcher-kva.test"),
        ("BÜCHER.test", "xn--bcher-kva.test"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("_dmarc.a.test", "_dmarc.a.test"),
        ("localhost", "localhost"),
    ],
)
def test_written_name_has_one_spelling(written: str, name: str) -> None:
    assert parse_written_name(written) == name


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "a..test", ".a.test", "a.test..", "-a.test", "a-.test", "a b.test", "a\n.test"),
        *("a.test/x", "user@a.test", "a.test:80", "*.a.test", "*", "a\0.test", "x" * 64 + ".test"),
        *(".".join(["abc"] * 70), "127.0.0.1", "2130706433", "0x7f.1", "a.0x", "1.2.3", "[::1]"),
    ],
)
def test_what_is_no_host_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_written_name(text)


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = parse_written_name(text)
    except InvalidName:
        return
    assert parse_name(name) == name
    assert parse_written_name(name) == name


def test_name_from_the_wire_has_no_dot_at_its_end() -> None:
    with pytest.raises(InvalidName):
        parse_name("a.test.")
