# SPDX-License-Identifier: Apache-2.0
"""What is learnt of the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll_server.network.surroundings import parse_name_servers, read_name_servers


def test_name_servers_are_those_of_the_host(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# nameserver 1.1.1.1\nsearch a.test\nnameserver 9.9.9.9\n nameserver\tfd00::53\n"
        "nameserver nonsense\nnameserver\n"
    )

    assert read_name_servers(file) == (("9.9.9.9", 53), ("fd00::53", 53))


def test_host_without_the_file_has_none(tmp_path: Path) -> None:
    assert read_name_servers(tmp_path / "absent") == ()


def test_operator_names_others_with_or_without_a_port() -> None:
    written = ["9.9.9.9", "9.9.9.9:5353", "[fd00::53]:5353", "fd00::53"]

    assert parse_name_servers(written) == (
        ("9.9.9.9", 53),
        ("9.9.9.9", 5353),
        ("fd00::53", 5353),
        ("fd00::53", 53),
    )


@pytest.mark.parametrize("written", ["ns.a.test", "9.9.9.9:0", "9.9.9.9:x", "9.9.9.9:", ""])
def test_what_is_no_address_of_a_name_server_is_an_error(written: str) -> None:
    with pytest.raises(ValueError, match="name server"):
        parse_name_servers([written])
