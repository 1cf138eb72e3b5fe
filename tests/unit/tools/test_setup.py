# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tools.setup import (
    Source,
    backports_entry,
    gvisor_release,
    missing_packages,
    parse_deb822_sources,
    parse_one_line_sources,
)

DEB822 = """\
Types: deb
# a remark
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb-src
URIs: http://sources.test/debian
Suites: bookworm
Components: main

Types: deb
Enabled: no
URIs: http://off.test/debian
Suites: bookworm
Components: main
"""

ONE_LINE = """\
# deb http://remark.test/debian bookworm main
deb-src http://sources.test/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main contrib # why
deb http://other.test/tool stable main
"""


def test_deb822_stanza_that_is_off_or_of_sources_is_left_out() -> None:
    assert parse_deb822_sources(DEB822) == [
        Source(
            "http://mirror.test/debian",
            ("bookworm", "bookworm-updates"),
            ("main",),
            ("signed-by=/usr/share/keyrings/archive.gpg",),
        )
    ]


def test_embedded_key_is_left_out() -> None:
    stanza = DEB822.split("\n\n")[0].replace(
        "/usr/share/keyrings/archive.gpg", "\n -----BEGIN\n .\n abc"
    )

    assert parse_deb822_sources(stanza)[0].options == ()


def test_one_line_sources_are_read_with_their_options() -> None:
    assert parse_one_line_sources(ONE_LINE) == [
        Source(
            "http://mirror.test/debian",
            ("bookworm",),
            ("main", "contrib"),
            ("arch=amd64", "signed-by=/k.gpg"),
        ),
        Source("http://other.test/tool", ("stable",), ("main",), ()),
    ]


def test_backports_come_from_the_mirror_of_the_release_itself() -> None:
    sources = parse_one_line_sources(
        "deb http://other.test/tool stable main\n"
    ) + parse_deb822_sources(DEB822)

    entry = backports_entry(sources, "bookworm")

    assert entry == (
        "deb [signed-by=/usr/share/keyrings/archive.gpg] http://mirror.test/debian bookworm-backports main"
    )


def test_no_backports_without_a_source_of_the_release() -> None:
    assert backports_entry(parse_one_line_sources(ONE_LINE), "trixie") is None


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("runsc version 0.0~20221219.0\nspec: 1.0.2-dev", 20221219),
        ("runsc version release-20240729.0", 20240729),
        ("", 0),
    ],
)
def test_release_of_gvisor_is_its_date(version: str, release: int) -> None:
    assert gvisor_release(version) == release


def test_nothing_is_missing_where_all_programs_are_found() -> None:
    assert missing_packages(lambda name: True, has_header=True) == []


def test_everything_is_missing_on_a_bare_host() -> None:
    packages = missing_packages(lambda name: False, has_header=False)

    assert {
        "crun",
        "cargo",
        "rustc",
        "gcc",
        "libc6-dev",
        "e2fsprogs",
        "iproute2",
    } <= set(packages)


def test_crun_is_not_wanted_where_runc_is() -> None:
    assert "crun" not in missing_packages(lambda name: name == "runc", has_header=True)


def test_tests_want_more_than_the_program_does() -> None:
    extra = set(missing_packages(lambda name: False, has_header=True, tests=True)) - set(
        missing_packages(lambda name: False, has_header=True)
    )

    browser = {"chromium", "nodejs", "npm"}
    assert extra == {"runc", "procps", "less", "vim-tiny", "openssl", "nftables"} | browser
