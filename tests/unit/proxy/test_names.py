# SPDX-License-Identifier: Apache-2.0
"""Which preview a host or a path names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.proxy.names import NOBODY, PreviewName, name_in_host, name_in_path

DOMAIN = b"preview.example.com"


@pytest.mark.parametrize(
    "host",
    [
        b"3000-abc.preview.example.com",
        b"3000-abc.preview.example.com:8080",
        b"3000-abc.preview.example.com.",
        b"3000-ABC.Preview.Example.COM",
        b" 3000-abc.preview.example.com ",
        b"3000-abc.preview.example.com:",
    ],
)
def test_host_of_a_preview_names_it(host: bytes) -> None:
    assert name_in_host(host, DOMAIN) == PreviewName(3000, "abc")


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"preview.example.com",
        b"api.preview.example.com",
        b"example.com",
        b"3000-abc.example.com",
        b"3000-abc.preview.example.com.evil.example",
        b"3000-abcpreview.example.com",
        b"abc-3000.preview.example.com",
        b"127.0.0.1",
        b"[::1]:7420",
    ],
)
def test_other_hosts_name_none(host: bytes) -> None:
    assert name_in_host(host, DOMAIN) is None


@pytest.mark.parametrize(
    "first",
    [
        b"0-abc",
        b"65536-abc",
        b"03000-abc",
        b"3000-",
        b"3000-a-b",
        b"3000-a_b",
        b"3000-a.b",
        b"3000-" + b"a" * 51,
        b"3000-\xff",
        b"123456789012345678901234567890-a",
    ],
)
def test_what_looks_like_a_preview_and_is_none_is_nobodys(first: bytes) -> None:
    assert name_in_host(first + b"." + DOMAIN, DOMAIN) == NOBODY


@pytest.mark.parametrize("path", [b"/p/3000-abc", b"/p/3000-abc/", b"/p/3000-abc/a/b"])
def test_path_of_a_preview_names_it(path: bytes) -> None:
    assert name_in_path(path) == PreviewName(3000, "abc", b"/p/3000-abc")


@pytest.mark.parametrize(
    "path", [b"/p/", b"/p/x/", b"/p/3000-abc%2f/", b"/p/../v1/", b"/p/3000-A/"]
)
def test_path_that_only_looks_so_is_nobodys(path: bytes) -> None:
    assert name_in_path(path) == NOBODY


@pytest.mark.parametrize("path", [b"", b"/", b"/p", b"/v1/health", b"/x/p/3000-abc", b"p/3000-abc"])
def test_other_paths_name_none(path: bytes) -> None:
    assert name_in_path(path) is None


@given(st.binary(max_size=80))
def test_no_host_and_no_path_is_an_exception(text: bytes) -> None:
    by_host = name_in_host(text + b"." + DOMAIN, DOMAIN)
    by_path = name_in_path(b"/p/" + text)

    for name in (by_host, by_path):
        assert name is None or name == NOBODY or 0 < name.port < 65_536
