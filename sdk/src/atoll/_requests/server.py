# SPDX-License-Identifier: Apache-2.0
"""Requests about the server: its health, images, pool, keys and events."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _wire
from ..models import CreateKey, ResizePool
from .base import (
    HEARTBEAT_SILENCE_SECONDS,
    JSON,
    JSON_BODY,
    NDJSON,
    Request,
    Resend,
    post,
    quote_id,
    sandbox_target,
    with_query,
)


def health() -> Request:
    return Request(b"GET", "/v1/health")


def list_images() -> Request:
    return Request(b"GET", "/v1/images")


def get_pool() -> Request:
    return Request(b"GET", "/v1/pool")


def resize_pool(size: int) -> Request:
    body = _wire.encode(ResizePool, {"size": size})
    return Request(b"PUT", "/v1/pool", (JSON, JSON_BODY), body)


def create_key(*, name: str | None, scopes: str | Sequence[str] | None) -> Request:
    # "a b" means what ["a", "b"] does; a text must not be taken for a list of letters.
    words = scopes.replace(",", " ").split() if isinstance(scopes, str) else scopes
    values = {"name": name, "scopes": None if words is None else list(words)}
    return post("/v1/keys", _wire.encode(CreateKey, values), resend=Resend.REFUSED)


def list_keys() -> Request:
    return Request(b"GET", "/v1/keys")


def delete_key(key_id: str) -> Request:
    # Sent twice, the second answer could be "not found" for what the first removed.
    return Request(b"DELETE", "/v1/keys/" + quote_id("a key", key_id), resend=Resend.REFUSED)


def stream_events(
    sandbox_id: str | None, *, types: Sequence[str], since: str | None, follow: bool
) -> Request:
    above = "/v1" if sandbox_id is None else sandbox_target(sandbox_id)
    query = {"since": since, "follow": None if follow else False}
    target = with_query(above + "/events", query)
    for name in types:
        separator = "&" if "?" in target else "?"
        target = with_query(target, {"type": name}, separator)
    return Request(b"GET", target, headers=(NDJSON,), wait=HEARTBEAT_SILENCE_SECONDS)
