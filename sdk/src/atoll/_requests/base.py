# SPDX-License-Identifier: Apache-2.0
"""What all requests are made of: their bytes, when they may be sent again, how targets and bodies are written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import quote

from ..errors import InvalidRequest

Header = tuple[bytes, bytes]
PathInSandbox = str | bytes | os.PathLike[str] | os.PathLike[bytes]
DEFAULT_COMMAND_TIMEOUT_MS = 60_000
COMMAND_GRACE_SECONDS = 5.0
"""From SIGTERM to SIGKILL."""
COMMAND_MARGIN_SECONDS = 10.0
"""For the server to answer once the command is gone."""
CREATE_SECONDS = 300.0
"""An image may have to come from elsewhere first."""
HEARTBEAT_SILENCE_SECONDS = 60.0
"""Four times as long as a streaming server may be silent."""
PAGE_SIZE = 100
FRAMES_TYPE = b"application/vnd.atoll.frames"
JSON: Header = (b"Accept", b"application/json")
JSON_BODY: Header = (b"Content-Type", b"application/json")
OCTETS: Header = (b"Accept", b"application/octet-stream")
OCTETS_BODY: Header = (b"Content-Type", b"application/octet-stream")
TAR: Header = (b"Accept", b"application/x-tar")
TAR_BODY: Header = (b"Content-Type", b"application/x-tar")
FRAMES: Header = (b"Accept", FRAMES_TYPE)
NDJSON: Header = (b"Accept", b"application/x-ndjson")


class Resend(Enum):
    """When a request may be sent again. One that never reached a server always may."""

    ALWAYS = "twice has the effect of once"
    REFUSED = "only when the server said that it had no room for it"
    NEVER = "not once it may have arrived"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `wait` is how long the answer may take, where that differs from the client's own limit."""

    method: bytes
    target: str
    headers: tuple[Header, ...] = (JSON,)
    body: bytes | None = None
    resend: Resend = Resend.ALWAYS
    wait: float | None = None


def encode_text(text: str) -> bytes:
    """Text as UTF-8, or `InvalidRequest`."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"not valid Unicode: {text!r:.80}") from None


def check_since(since: object, *, counts: str = "bytes") -> None:
    """Raises `InvalidRequest` for what is no place in a stream of so many `counts`."""
    if type(since) is not int or since < 0:
        raise InvalidRequest(f"since is a number of {counts}, not {since!r:.80}")


def sandbox_target(sandbox_id: str) -> str:
    return "/v1/sandboxes/" + quote_id("a sandbox", sandbox_id)


def plain_word(word: object) -> str:
    """A member of a closed set, or text in its place, as it is written."""
    return str(getattr(word, "value", word))


def quote_id(whose: str, text: str) -> str:
    """An id as it stands in a target, or `InvalidRequest`."""
    if type(text) is not str or not text:
        raise InvalidRequest(
            f"{whose} id is text, such as the one its creation gave, not {text!r:.80}"
        )
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise InvalidRequest(f"{whose} id is text, not {text!r:.80}") from None


def with_query(target: str, query: Mapping[str, Any], separator: str = "?") -> str:
    """A target with what of its query is not None."""
    pairs = [
        f"{quote(key, safe='')}={quote(query_text(value), safe='')}"
        for key, value in query.items()
        if value is not None
    ]
    return target + separator + "&".join(pairs) if pairs else target


def query_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return str(value).encode().decode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"not valid Unicode: {value!r:.80}") from None


def path_bytes(path: PathInSandbox) -> bytes:
    """A path inside a sandbox as it is there, or `InvalidRequest`."""
    try:
        plain = os.fspath(path)
    except TypeError:
        raise InvalidRequest(f"a path is text or bytes, not {path!r:.80}") from None
    if isinstance(plain, bytes):
        return plain
    try:
        # Escapes of bytes that are not UTF-8, as `os.fsdecode` makes them, become those bytes again.
        return plain.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidRequest(
            f"a path has surrogates that stand for no byte: {path!r:.80}"
        ) from None


def post(target: str, body: bytes, *, resend: Resend, wait: float | None = None) -> Request:
    return Request(b"POST", target, headers=(JSON, JSON_BODY), body=body, resend=resend, wait=wait)


def length_header(size: int | None) -> tuple[Header, ...]:
    """How a streamed body is framed: by its size, or in chunks where that is not known."""
    if size is None:
        return ((b"Transfer-Encoding", b"chunked"),)
    return ((b"Content-Length", b"%d" % size),)
