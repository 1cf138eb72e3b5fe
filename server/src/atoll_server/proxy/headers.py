# SPDX-License-Identifier: Apache-2.0
"""Which headers pass, both ways, and which are ours to say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from atoll_server.proxy import access
from atoll_server.proxy.names import PreviewName

Headers = list[tuple[bytes, bytes]]

# About one connection, and so never passed on.
_HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# Said by us, or meant for us.
_OURS: Final = frozenset(
    (
        b"host",
        b"cookie",
        b"expect",
        b"forwarded",
        b"referer",
        b"x-real-ip",
        access.TOKEN_HEADER,
    )
)
_FORWARDED: Final = b"x-forwarded-"
# A preview may speak for itself, not for the ports and hosts beside it. The date is the server's own.
_NOT_ANSWERED: Final = frozenset(
    (b"alt-svc", b"strict-transport-security", b"public-key-pins", b"date", b"connection")
)
# Where all previews share one origin, and with the API, nothing that outlives an answer may be set.
_NOT_BY_PATH: Final = frozenset((b"set-cookie", b"clear-site-data", b"service-worker-allowed"))
_NOT_TRAILERS: Final = (
    _HOP_BY_HOP
    | _OURS
    | _NOT_ANSWERED
    | _NOT_BY_PATH
    | frozenset(
        (b"authorization", b"location", b"refresh", b"referrer-policy", b"cache-control", b"range")
    )
)
_DOMAIN_ATTRIBUTE: Final = re.compile(rb";[ \t]*domain[ \t]*(?:=[^;]*)?(?=;|$)", re.IGNORECASE)
SANDBOX_POLICY: Final = (
    b"sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"
)
REFERRER_POLICY: Final = b"same-origin"


@dataclass(frozen=True)
class Visit:
    """Who asks for which preview, and how. `scheme` is the one that the outside uses."""

    name: PreviewName
    host: bytes
    scheme: bytes
    client: bytes


def request_headers(given: Headers, visit: Visit) -> Headers:
    """What the program inside is told, but for what frames the body."""
    dropped = _HOP_BY_HOP | _OURS | _named_in_connection(given)
    passed = [
        (name, value)
        for name, value in given
        if name not in dropped and not name.startswith(_FORWARDED) and name != b"content-length"
    ]
    # A program asked by path is not told the host, which is that of the API.
    host = b"localhost:%d" % visit.name.port if visit.name.is_by_path else visit.host
    head = [(b"host", host)]
    if not visit.name.is_by_path and (cookie := access.cookie_header(given)):
        passed.append((b"cookie", cookie))
    passed += [(name, access.without_token(value)) for name, value in given if name == b"referer"]
    return head + passed + _forwarded(visit)


def _forwarded(visit: Visit) -> Headers:
    told = [
        (b"x-forwarded-for", visit.client),
        (b"x-forwarded-proto", visit.scheme),
        (b"x-forwarded-host", visit.host),
    ]
    if visit.name.is_by_path:
        told.append((b"x-forwarded-prefix", visit.name.prefix))
    return told


def trailers(given: Headers) -> Headers:
    """Which of what stands behind a body passes, either way: nothing that frames, routes, opens or sets anything."""
    return [
        (name, value)
        for name, value in given
        if name not in _NOT_TRAILERS and not name.startswith((_FORWARDED, b"content-", b"access-"))
    ]


def response_headers(given: Headers, name: PreviewName) -> Headers:
    """What the outside is told, but for what frames the body."""
    dropped = _HOP_BY_HOP | _NOT_ANSWERED | _named_in_connection(given)
    if name.is_by_path:
        dropped |= _NOT_BY_PATH
    passed = [
        (header, _answered(header, value, name))
        for header, value in given
        if header not in dropped and header != b"content-length" and not _is_ours(header, value)
    ]
    if not any(header == b"referrer-policy" for header, _ in passed):
        passed.append((b"referrer-policy", REFERRER_POLICY))
    if name.is_by_path:
        passed.append((b"content-security-policy", SANDBOX_POLICY))
    return passed


def _answered(header: bytes, value: bytes, name: PreviewName) -> bytes:
    if header == b"set-cookie":
        # For this host alone, whatever it says.
        return _DOMAIN_ATTRIBUTE.sub(b"", value)
    is_local = value.startswith(b"/") and not value.startswith((b"//", b"/\\"))
    if header == b"location" and name.is_by_path and is_local:
        return name.prefix + value
    return value


def _is_ours(header: bytes, value: bytes) -> bool:
    return header == b"set-cookie" and value.partition(b"=")[0].strip() == access.COOKIE


def _named_in_connection(given: Headers) -> frozenset[bytes]:
    named = (value for name, value in given if name == b"connection")
    words = (word.strip(b" \t").lower() for value in named for word in value.split(b","))
    # These frame the body or name its origin: no sender may have them taken away.
    return frozenset(words) - {b"content-length", b"host", b"cookie", b"set-cookie", b""}
