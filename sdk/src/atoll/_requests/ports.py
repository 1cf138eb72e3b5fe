# SPDX-License-Identifier: Apache-2.0
"""Requests about ports."""

from __future__ import annotations

from .. import _wire
from ..errors import InvalidPort
from ..models import MAX_PORT, ExposePort, SignPort
from .base import COMMAND_MARGIN_SECONDS, Request, Resend, post, sandbox_target, with_query


def expose_port(sandbox_id: str, port: int, *, private: bool | None) -> Request:
    body = _wire.encode(ExposePort, {"port": check_port(port), "private": private})
    return post(sandbox_target(sandbox_id) + "/ports", body, resend=Resend.ALWAYS)


def list_ports(sandbox_id: str) -> Request:
    return Request(b"GET", sandbox_target(sandbox_id) + "/ports")


def close_port(sandbox_id: str, port: int) -> Request:
    # Sent twice, the second answer could be "not exposed" for what the first closed.
    return Request(b"DELETE", port_target(sandbox_id, port), resend=Resend.REFUSED)


def sign_port(sandbox_id: str, port: int, *, lasts_ms: int) -> Request:
    body = _wire.encode(SignPort, {"lasts_ms": lasts_ms})
    return post(port_target(sandbox_id, port) + "/sign", body, resend=Resend.ALWAYS)


def list_listening(sandbox_id: str, port: int | None = None, *, wait_ms: int = 0) -> Request:
    query = {"port": None if port is None else check_port(port), "waitMs": wait_ms or None}
    target = with_query(sandbox_target(sandbox_id) + "/ports/listening", query)
    return Request(b"GET", target, wait=wait_ms / 1000 + COMMAND_MARGIN_SECONDS)


def dial_port(sandbox_id: str, port: int) -> Request:
    return Request(b"GET", port_target(sandbox_id, port) + "/dial")


def check_port(port: object) -> int:
    """A port as a number; whether it can be exposed the server says."""
    if type(port) is not int or not 0 <= port <= MAX_PORT:
        raise InvalidPort(f"a port is a number from 1 to {MAX_PORT}, not {port!r:.80}")
    return port


def port_target(sandbox_id: str, port: int) -> str:
    return f"{sandbox_target(sandbox_id)}/ports/{check_port(port)}"
