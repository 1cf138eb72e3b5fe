# SPDX-License-Identifier: Apache-2.0
"""What every connection meets first: a request for a preview goes to its sandbox, any other to the API, and never both.

A request is for a preview by its host alone, or else by its path. What looks like a preview's host and is none is
answered here, too, so that the API is not to be had under such a name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from atoll_server.engine import errors
from atoll_server.engine.engine import Engine
from atoll_server.proxy import access
from atoll_server.proxy.counts import Counts
from atoll_server.proxy.door import Admitted, Door
from atoll_server.proxy.headers import Headers, Visit
from atoll_server.proxy.http import Exchange, may_repeat, render_request, send_page
from atoll_server.proxy.lines import Lines
from atoll_server.proxy.names import PreviewName
from atoll_server.proxy.pages import BAD_REQUEST, NOT_FOUND, STOPPING, Page, page_for
from atoll_server.proxy.tunnel import Tunnel, render_page, render_wish
from atoll_server.proxy.upstream import BadAnswer

logger = logging.getLogger("atoll_server.proxy")

_TARGET: Final = re.compile(rb"/[\x21-\x7e\x80-\xff]*")
_NAVIGATED: Final = ("GET", "HEAD")


class Front:
    """The outermost application. `only_port` is a port of ours where previews alone are to be had."""

    def __init__(
        self,
        api: ASGIApp,
        engine: Engine,
        *,
        domain: str,
        scheme: str,
        is_key: Callable[[bytes], bool],
        counts: Counts,
        only_port: int | None = None,
    ) -> None:
        self._api = api
        self._lines = Lines(engine)
        self._door = Door(engine, domain)
        self._scheme = scheme.encode("ascii")
        self._is_key = is_key
        self._counts = counts
        self._only_port = only_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        name = self._name(scope["headers"], scope["raw_path"], scope["server"])
        if name is None:
            await self._api(scope, receive, send)
        elif scope["type"] == "http":
            with self._counts.opened("request"):
                told, heard = self._counts.sending(send), self._counts.receiving(receive)
                await self._serve(name, scope, heard, told)
        # Upgrades come by way of `takes_upgrade`. What gets here in spite of that has no answer, which refuses it.

    async def _serve(self, name: PreviewName, scope: Scope, receive: Receive, send: Send) -> None:
        admitted = self._door.admit(name, scope["headers"], scope["query_string"])
        if admitted is None:
            return await send_page(scope, send, NOT_FOUND)
        if (elsewhere := self._redirect(admitted, name, scope)) is not None:
            return await send_page(scope, send, elsewhere)
        target = _target(name, scope["raw_path"], scope["query_string"])
        if target is None:
            return await send_page(scope, send, BAD_REQUEST)
        visit = self._visit(name, scope["headers"], scope["client"])
        scope = {**scope, "headers": self._without_keys(scope["headers"])}
        asked = render_request(scope, visit, target)
        try:
            line = await self._lines.open(admitted, asked, may_repeat=may_repeat(scope))
        except errors.EngineError as error:
            return await send_page(scope, send, page_for(error, name.port))
        exchange = Exchange(scope, receive, send, visit, line, asked)
        try:
            await exchange.run()
        except BadAnswer as error:
            logger.debug("an answer was cut off", extra={"why": str(error)})
        except asyncio.CancelledError:
            # By the server, which is about to end and cancels nothing else.
            if not exchange.has_begun:
                await send_page(scope, send, STOPPING)
        finally:
            line.end(may_serve_again=exchange.may_be_followed)

    def close(self) -> None:
        """Let go of what is kept for requests to come."""
        self._lines.close()

    def takes_upgrade(
        self, headers: Headers, url: bytes, server: tuple[str, int | None] | None
    ) -> bool:
        """Whether a WebSocket is for a preview. Asked by the connection, which then calls `serve_upgrade`."""
        return self._name(headers, url.partition(b"?")[0], server) is not None

    async def serve_upgrade(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        headers: Headers,
        url: bytes,
        client: tuple[str, int] | None,
    ) -> None:
        """Serve a WebSocket, to the end of the connection."""
        try:
            with self._counts.opened("websocket"):
                page = await self._tunnel(reader, writer, headers, url, client)
            if page is not None:
                self._counts.note_answer(page.status)
                ending = (b"connection", b"close")
                writer.write(render_page(page.status, [*page.headers(is_html=False), ending]))
                writer.write(page.body(is_html=False))
        except* (OSError, BadAnswer):
            pass  # the client has gone, or the program: either way this is the end
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _tunnel(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        headers: Headers,
        url: bytes,
        client: tuple[str, int] | None,
    ) -> Page | None:
        raw_path, _, query = url.partition(b"?")
        name = self._name(headers, raw_path, None)
        admitted = None if name is None else self._door.admit(name, headers, query)
        if name is None or admitted is None:
            return NOT_FOUND
        target = _target(name, raw_path, query)
        if target is None:
            return BAD_REQUEST
        visit = self._visit(name, headers, client)
        wish = render_wish(self._without_keys(headers), visit, target)
        try:
            line = await self._lines.open(admitted, wish, may_repeat=False)
        except errors.EngineError as error:
            return page_for(error, name.port)
        try:
            await Tunnel(reader, writer, visit, line, self._counts).run()
        finally:
            line.end(may_serve_again=False)
        return None

    def _name(
        self, headers: Headers, raw_path: bytes, server: tuple[str, int | None] | None
    ) -> PreviewName | None:
        name = self._door.name(headers, raw_path)
        is_for_previews = server is not None and server[1] == self._only_port is not None
        return name or (PreviewName(0, "") if is_for_previews else None)

    def _redirect(self, admitted: Admitted, name: PreviewName, scope: Scope) -> Page | None:
        """A browser keeps a good token of a query as a cookie, and its address bar shows none."""
        if scope["method"] not in _NAVIGATED:
            return None
        path, query = scope["raw_path"], scope["query_string"]
        if name.is_by_path:
            # Without the last slash every relative link would lead out of the preview.
            is_bare = path == name.prefix
            return _moved(path + b"/", query, None) if is_bare else None
        is_navigation = any(
            header == b"accept" and b"text/html" in value for header, value in scope["headers"]
        )
        if not is_navigation or not access.has_token(query) or admitted.token is None:
            return None
        is_secure = self._scheme == b"https"
        cookie = access.set_cookie(admitted.token, admitted.seconds_left, is_secure=is_secure)
        return _moved(path, access.without_token(query), cookie)

    def _visit(self, name: PreviewName, headers: Headers, client: tuple[str, int] | None) -> Visit:
        host = next((value for header, value in headers if header == b"host"), b"")
        address = b"unix" if client is None else client[0].encode("ascii", "replace")
        return Visit(name, host, self._scheme, address)

    def _without_keys(self, headers: Headers) -> Headers:
        """A key of the API in a request for a preview got there by mistake, and must not get any further."""
        return [
            (name, value)
            for name, value in headers
            if name != b"authorization" or not self._is_key(value.partition(b" ")[2].strip())
        ]


def _target(name: PreviewName, raw_path: bytes, query: bytes) -> bytes | None:
    """What the program is asked for; None for what no program should be."""
    path = raw_path[len(name.prefix) :] or b"/"
    rest = access.without_token(query)
    target = path + b"?" + rest if rest else path
    return target if _TARGET.fullmatch(target) else None


def _moved(path: bytes, query: bytes, cookie: bytes | None) -> Page:
    # Of two slashes at its beginning, of whichever kind, browsers take what follows for another host.
    location = b"/" + path.lstrip(b"/\\") + (b"?" + query if query else b"")
    extra = ((b"location", location), *([(b"set-cookie", cookie)] if cookie else []))
    return Page(302, "moved", "This preview continues at another address.", extra)
