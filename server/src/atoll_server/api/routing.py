# SPDX-License-Identifier: Apache-2.0
"""Operations as records, and the way from a request to the one that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from atoll_server.api.call import Api, Call
from atoll_server.api.errors import MethodNotAllowed
from atoll_server.api.reply import JSON_TYPE, Answer, Reply
from atoll_server.engine.errors import EngineError, Forbidden, InvalidRequest
from atoll_server.engine.keys import Scope as KeyScope

SMALL_BODY_LIMIT = 64 * 1024
BODY_LIMIT = 1024 * 1024
LARGE_BODY_LIMIT = 8 * 1024 * 1024
SANDBOX_ERRORS = ("SANDBOX_NOT_FOUND", "SANDBOX_NOT_RUNNING", "SANDBOX_FAILED")
"""What every operation can answer that is about something in a running sandbox."""

Handler = Callable[[Call], Coroutine[Any, Any, Answer]]
SocketHandler = Callable[[Call, Send], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Operation:
    """One method of one path: how it is reached, what it reads and answers. The OpenAPI document is made of these."""

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    answer: type[Any] | None
    errors: tuple[str, ...] = ()
    """Codes that it can answer with, beside those that every operation can."""
    scope: KeyScope | None = None
    """What the key must be allowed to do; None for public operations."""
    body: type[Any] | None = None
    body_type: str = JSON_TYPE
    body_limit: int = BODY_LIMIT
    raw_body_types: tuple[str, ...] = ()
    """Media types taken besides or instead of the record, streamed."""
    invalid: type[EngineError] = InvalidRequest
    query: type[Any] | None = None
    status: int = 200
    answer_types: tuple[str, ...] = (JSON_TYPE,)
    partial: bool = False
    """Whether a `Range` of its bytes can be asked for."""
    socket: SocketHandler | None = None
    """What speaks with a client that asks for a WebSocket here."""

    def call(self, scope: Scope, receive: Receive, api: Api) -> Call:
        """A request for it, which its key and its query allow."""
        scope["atoll.route"] = self.path
        self._check(scope)
        return Call(scope, receive, api, body_limit=self.body_limit, invalid=self.invalid)

    def _check(self, scope: Scope) -> None:
        if self.scope is not None and self.scope not in scope["atoll.key"].scopes:
            raise Forbidden(f"this key lacks the scope {self.scope.value}")
        if self.query is None and scope["query_string"]:
            raise InvalidRequest("this operation takes no query parameters")


class Resource:
    """All operations of one path, as an ASGI application."""

    def __init__(self, operations: Iterable[Operation], api: Api) -> None:
        self._operations = {operation.method: operation for operation in operations}
        if "GET" in self._operations:
            self._operations["HEAD"] = self._operations["GET"]
        self._allow = ", ".join(sorted({*self._operations, "OPTIONS"}))
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self._operations.get(scope["method"])
        if operation is None:
            await self._refuse(scope)(scope, receive, send)
            return
        answer = await operation.handler(operation.call(scope, receive, self._api))
        await answer(scope, receive, send)

    def _refuse(self, scope: Scope) -> Reply:
        allow = ((b"allow", self._allow.encode("ascii")),)
        if scope["method"] != "OPTIONS":
            raise MethodNotAllowed(f"this path takes {self._allow}", headers=allow)
        return Reply(status=204, headers=allow)


class SocketResource:
    """An operation's WebSocket, as an ASGI application."""

    def __init__(self, operation: Operation, api: Api) -> None:
        self._operation = operation
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._operation.socket is not None
        await self._operation.socket(self._operation.call(scope, receive, self._api), send)


def make_routes(operations: Sequence[Operation], api: Api) -> list[BaseRoute]:
    """A route for each path, in the order of the operations: those asked for most come first."""
    paths = dict.fromkeys(operation.path for operation in operations)
    routes: list[BaseRoute] = [
        Route(path, Resource([op for op in operations if op.path == path], api), name=path)
        for path in paths
    ]
    sockets = [operation for operation in operations if operation.socket is not None]
    return [*routes, *(WebSocketRoute(op.path, SocketResource(op, api)) for op in sockets)]
