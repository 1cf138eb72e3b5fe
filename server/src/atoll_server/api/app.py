# SPDX-License-Identifier: Apache-2.0
"""The application: routes and layers as lists, and the outermost layer, which makes every failure an answer."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets

from prometheus_client import CollectorRegistry
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atoll_server.api.auth import Authentication
from atoll_server.api.call import Api
from atoll_server.api.errors import ClientGone, HttpError, RouteNotFound, render_error
from atoll_server.api.exposition import Exposition
from atoll_server.api.native import OPERATIONS
from atoll_server.api.openapi import make_document_operation
from atoll_server.api.reply import JSON_HEADERS, send_reply
from atoll_server.api.routing import make_routes
from atoll_server.api.settings import ApiSettings
from atoll_server.clock import Clock
from atoll_server.engine.engine import Engine
from atoll_server.engine.errors import EngineError, Internal
from atoll_server.engine.keys import Keys
from atoll_server.engine.quotas import Quota, Rate

logger = logging.getLogger("atoll_server.api")

SHORT_BODY_BYTES = 64 * 1024
# In place of a status, in what is counted: a client that left before its answer, and a WebSocket that was not begun.
GONE = "gone"
REFUSED = "refused"
NO_ROUTE = "none"

_CLOSE = (b"connection", b"close")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def build_app(
    engine: Engine, settings: ApiSettings, keys: Keys, clock: Clock, registry: CollectorRegistry
) -> ASGIApp:
    """The whole HTTP application. `registry` has what is to be told of the process that it runs in."""
    operations = (*OPERATIONS, make_document_operation(OPERATIONS, settings.version))
    exposition = Exposition(registry)
    routes = make_routes(operations, Api(engine, settings, keys, clock, exposition))
    app: ASGIApp = Router(routes, redirect_slashes=False, default=_no_such_route)
    app = Authentication(
        app,
        keys=keys,
        public=[op.path for op in operations if op.scope is None],
        clock=clock,
        requests=_quota(settings.rate_limit_per_second, settings.rate_limit_per_second),
        failures=_quota(settings.auth_failures_per_minute / 60, settings.auth_failures_per_minute),
    )
    return Answers(app, exposition)


def _quota(per_second: float, burst: float) -> Quota | None:
    return Quota(Rate(per_second, max(1.0, burst))) if per_second > 0 else None


async def _no_such_route(scope: Scope, receive: Receive, send: Send) -> None:
    raise RouteNotFound("no such path; GET /v1/openapi.json lists them all")


class Answers:
    """Gives every request an id and every failure an answer. The outermost layer; HTTP and WebSockets pass."""

    def __init__(self, app: ASGIApp, exposition: Exposition) -> None:
        self._app = app
        self._exposition = exposition

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._call_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        request_id = scope["atoll.request_id"] = _request_id(scope)
        header = (b"x-request-id", request_id.encode("ascii"))
        started = False
        status = GONE
        unread = _may_be_long(scope)

        async def receive_noting() -> Message:
            nonlocal unread
            message = await receive()
            if not message.get("more_body", False):
                unread = False
            return message

        async def send_identified(message: Message) -> None:
            nonlocal started, status
            if message["type"] == "http.response.start":
                started = True
                status = str(message["status"])
                message["headers"].append(header)
            await send(message)

        try:
            await self._app(scope, receive_noting, send_identified)
        except ClientGone:
            logger.debug("client gone", extra={"request_id": request_id})
        except asyncio.CancelledError:
            # By the server, which is about to end and cancels nothing else.
            if not started:
                stopping = Internal("the server is stopping")
                await _refuse(stopping, request_id, send_identified, close=unread)
        except Exception as error:  # the request's top: whatever it is, it has an answer
            _log(error, scope, request_id)
            if started:
                return  # the server closes the connection, so that nobody takes half an answer for a whole one
            await _refuse(error, request_id, send_identified, close=unread)
        finally:
            self._count(scope, status)

    def _count(self, scope: Scope, status: str) -> None:
        """What no route was found for, or was refused before, counts as one route: clients choose the rest."""
        route = scope.get("atoll.route", NO_ROUTE)
        self._exposition.note_request(scope.get("method", "GET"), route, status)

    async def _call_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket has an HTTP answer until it is accepted. What fails later is said by whoever speaks on it."""
        request_id = scope["atoll.request_id"] = _request_id(scope)
        header = (b"x-request-id", request_id.encode("ascii"))
        accepted = False

        async def send_identified(message: Message) -> None:
            nonlocal accepted
            if message["type"] == "websocket.accept":
                accepted = True
                message["headers"] = [*message.get("headers", ()), header]
            try:
                await send(message)
            except OSError:  # as ASGI has it
                raise ClientGone from None

        async def send_answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append(header)
            await send({**message, "type": f"websocket.{message['type']}"})

        try:
            await self._app(scope, receive, send_identified)
        except ClientGone:
            logger.debug("client gone", extra={"request_id": request_id})
        except Exception as error:  # the request's top
            _log(error, {**scope, "method": "GET"}, request_id)
            if not accepted:
                await _refuse(error, request_id, send_answer, close=True)
        finally:
            self._count(scope, "101" if accepted else REFUSED)


async def _refuse(error: Exception, request_id: str, send: Send, *, close: bool) -> None:
    """Answer why not. `close` ends the connection with it: the rest of the body is not worth waiting for."""
    reply = render_error(error, request_id)
    ending = (_CLOSE,) if close else ()
    await send_reply(send, reply.status, reply.body, (*JSON_HEADERS, *reply.headers, *ending))


def _may_be_long(scope: Scope) -> bool:
    """Whether the request's body is one that could go on for long; a short one is cheaper read than cut off."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) > SHORT_BODY_BYTES
        if name == b"transfer-encoding":
            return True
    return False


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return f"req_{secrets.token_hex(8)}"


def _log(error: Exception, scope: Scope, request_id: str) -> None:
    fields = {"request_id": request_id, "method": scope["method"], "path": scope["path"][:200]}
    if isinstance(error, EngineError | HttpError):
        logger.debug("refused", extra={**fields, "code": error.code, "why": error.message[:200]})
    else:
        logger.error("request failed", exc_info=error, extra=fields)
