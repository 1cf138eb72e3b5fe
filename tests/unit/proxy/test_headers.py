# SPDX-License-Identifier: Apache-2.0
"""Which headers pass, and which are ours to say."""

from __future__ import annotations

import pytest

from atoll_server.proxy.headers import Visit, request_headers, response_headers
from atoll_server.proxy.names import PreviewName

BY_HOST = PreviewName(3000, "abc")
BY_PATH = PreviewName(3000, "abc", b"/p/3000-abc")


def visit(name: PreviewName) -> Visit:
    return Visit(name, b"3000-abc.localhost:7420", b"https", b"192.0.2.1")


def test_program_is_told_whom_the_visitor_asked_and_who_he_is() -> None:
    headers = request_headers([(b"host", b"x"), (b"accept", b"*/*")], visit(BY_HOST))

    assert headers == [
        (b"host", b"3000-abc.localhost:7420"),
        (b"accept", b"*/*"),
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"3000-abc.localhost:7420"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        b"connection",
        b"keep-alive",
        b"te",
        b"upgrade",
        b"transfer-encoding",
        b"proxy-authorization",
        b"expect",
        b"forwarded",
        b"x-real-ip",
        b"x-forwarded-port",
        b"content-length",
        b"atoll-preview-token",
    ],
)
def test_header_about_one_connection_or_of_ours_does_not_pass(name: bytes) -> None:
    assert name not in dict(request_headers([(name, b"a")], visit(BY_HOST)))


def test_header_that_the_connection_names_does_not_pass() -> None:
    given = [(b"connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"x-stays", b"1")]

    assert b"x-hop" not in dict(request_headers(given, visit(BY_HOST)))
    assert b"x-stays" in dict(request_headers(given, visit(BY_HOST)))
    assert b"x-hop" not in dict(response_headers(given, BY_HOST))


def test_program_asked_by_path_hears_of_no_cookies_and_another_host() -> None:
    headers = dict(request_headers([(b"cookie", b"a=1")], visit(BY_PATH)))

    assert b"cookie" not in headers
    assert headers[b"host"] == b"localhost:3000"
    assert headers[b"x-forwarded-prefix"] == b"/p/3000-abc"


@pytest.mark.parametrize(
    ("cookie", "passed"),
    [
        (b"a=1", b"a=1"),
        (b"a=1; Domain=example.com", b"a=1"),
        (b"a=1; Path=/; DOMAIN = .example.com ; Secure", b"a=1; Path=/; Secure"),
        (b"a=1;domain=x;Domain=y", b"a=1"),
        (b"a=1; Domain", b"a=1"),
        (b"a=domain=x; Max-Age=1", b"a=domain=x; Max-Age=1"),
        (b"a=1; domainx=1", b"a=1; domainx=1"),
    ],
)
def test_cookie_is_for_the_preview_alone(cookie: bytes, passed: bytes) -> None:
    assert (b"set-cookie", passed) in response_headers([(b"set-cookie", cookie)], BY_HOST)


def test_cookie_of_ours_cannot_be_set_by_a_program() -> None:
    headers = response_headers([(b"set-cookie", b"atoll-preview=x")], BY_HOST)

    assert b"set-cookie" not in dict(headers)


def test_answer_by_path_stands_alone() -> None:
    given = [
        (b"set-cookie", b"a=1"),
        (b"content-security-policy", b"default-src *"),
        (b"service-worker-allowed", b"/"),
    ]

    headers = response_headers(given, BY_PATH)

    policies = [value for name, value in headers if name == b"content-security-policy"]
    assert policies[0] == b"default-src *"
    assert policies[1].startswith(b"sandbox ")
    assert b"allow-same-origin" not in policies[1]
    assert {b"set-cookie", b"service-worker-allowed"}.isdisjoint(dict(headers))


@pytest.mark.parametrize(
    ("location", "passed"),
    [
        (b"/login", b"/p/3000-abc/login"),
        (b"login", b"login"),
        (b"//evil.example/", b"//evil.example/"),
        (b"/\\evil.example/", b"/\\evil.example/"),
        (b"http://127.0.0.1/", b"http://127.0.0.1/"),
    ],
)
def test_redirect_by_path_stays_within_the_preview(location: bytes, passed: bytes) -> None:
    headers = dict(response_headers([(b"location", location)], BY_PATH))

    assert headers[b"location"] == passed
