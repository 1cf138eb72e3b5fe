# SPDX-License-Identifier: Apache-2.0
"""Tokens on their way in: taken from header, query or cookie, and taken out, so that no program inside sees one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]

TOKEN_HEADER: Final = b"atoll-preview-token"
TOKEN_PARAMETER: Final = b"atoll-preview-token"
COOKIE: Final = b"atoll-preview"
_TOKEN: Final = re.compile(rb"[0-9]{1,12}\.[A-Za-z0-9_-]{43}")
_PARAMETER: Final = re.compile(rb"(?:^|(?<=[?&]))" + TOKEN_PARAMETER + rb"=([^&#]*)&?")
# Other previews of the domain can plant cookies of the same name, but not without end.
_MOST_TOKENS: Final = 8


def tokens(headers: Headers, query: bytes) -> Iterator[str]:
    """All that a request brings, the likeliest first, each of the form that tokens have."""
    found = [value for name, value in headers if name == TOKEN_HEADER]
    found += _PARAMETER.findall(query)
    found += [value for _, value in cookies(headers) if _ == COOKIE]
    for token in found[:_MOST_TOKENS]:
        if _TOKEN.fullmatch(token):
            yield token.decode("ascii")


def has_token(query: bytes) -> bool:
    """Whether a query has one, good or not."""
    return _PARAMETER.search(query) is not None


def without_token(text: bytes) -> bytes:
    """A query, or a URL such as a referrer, without the token in it."""
    return _PARAMETER.sub(b"", text).rstrip(b"&?") if has_token(text) else text


def cookies(headers: Headers) -> Iterator[tuple[bytes, bytes]]:
    """Each cookie's name and value, as they stand."""
    for header, value in headers:
        if header == b"cookie":
            for pair in value.split(b";"):
                name, _, text = pair.strip(b" \t").partition(b"=")
                yield name, text


def cookie_header(headers: Headers) -> bytes:
    """All cookies but ours, as one header; empty where none are left."""
    kept = (
        name + b"=" + value if value else name for name, value in cookies(headers) if name != COOKIE
    )
    return b"; ".join(pair for pair in kept if pair)


def set_cookie(token: str, max_age: int | None, *, is_secure: bool) -> bytes:
    """What makes a browser keep the token for this host alone, where no script sees it."""
    cookie = COOKIE + b"=" + token.encode("ascii") + b"; Path=/; HttpOnly; SameSite=Lax"
    if max_age is not None:
        cookie += b"; Max-Age=%d" % max(0, max_age)
    return cookie + (b"; Secure" if is_secure else b"")
