# SPDX-License-Identifier: Apache-2.0
"""What a visitor reads where there is no answer of a program. Strangers learn nothing from it about what there is."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Final

from atoll_server.engine import errors

_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


@dataclass(frozen=True)
class Page:
    """One whole answer of ours."""

    status: int
    title: str
    text: str
    extra: tuple[tuple[bytes, bytes], ...] = ()

    def body(self, *, is_html: bool) -> bytes:
        if not is_html:
            return f"{self.title}: {self.text}\n".encode()
        title, text = html.escape(self.title), html.escape(self.text)
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f"<h1>{title}</h1><p>{text}</p></html>\n"
        ).encode()

    def headers(self, *, is_html: bool) -> list[tuple[bytes, bytes]]:
        kind = b"text/html" if is_html else b"text/plain"
        length = b"%d" % len(self.body(is_html=is_html))
        told = (b"content-type", kind + b"; charset=utf-8"), (b"content-length", length)
        return [*told, *_HEADERS, *self.extra]


NOT_FOUND: Final = Page(
    404,
    "no such preview",
    "There is none at this address, or no longer, or it is private and this request brought no token for it.",
)
STOPPING: Final = Page(503, "stopping", "This server is about to stop.")
BAD_REQUEST: Final = Page(400, "bad request", "This request cannot be passed on.")


def page_for(error: errors.EngineError, port: int) -> Page:
    """What a visitor who may know of the preview is told of why it does not answer."""
    if isinstance(error, errors.PortNotListening):
        return Page(502, "bad gateway", f"Nothing listens on port {port} in this sandbox.")
    if isinstance(error, errors.SandboxNotFound):
        return NOT_FOUND
    if isinstance(error, errors.SandboxNotRunning):
        return Page(503, "not running", "This sandbox does not run at the moment.")
    if isinstance(error, errors.ResourceExhausted):
        return Page(503, "busy", f"Port {port} in this sandbox takes no more connections for now.")
    return Page(502, "bad gateway", "This sandbox does not answer.")


def bad_answer(port: int, why: str) -> Page:
    """Where a program answered what is no answer."""
    text = f"The program on port {port} in this sandbox did not answer as it must: {why}."
    return Page(502, "bad gateway", text)


def wants_html(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"accept" and b"text/html" in value.lower() for name, value in headers)
