# SPDX-License-Identifier: Apache-2.0
"""Operations as records, what a handler sees of its request, and the way from one to the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from atoll.models import MAX_COMMAND_TIMEOUT_MS, MAX_LIFETIME_MS
from atoll_server.api.accept import preferred
from atoll_server.api.departures import WATCH_AFTER_SECONDS, unless_gone
from atoll_server.api.errors import (
    ClientGone,
    MethodNotAllowed,
    UnsupportedMediaType,
)
from atoll_server.api.exposition import Exposition
from atoll_server.api.records import Malformed, parse_json, parse_query, render_json
from atoll_server.clock import Clock
from atoll_server.engine.engine import Engine
from atoll_server.engine.errors import (
    EngineError,
    Forbidden,
    InvalidRequest,
    SandboxNotFound,
    TooLarge,
)
from atoll_server.engine.keys import ApiKey, Keys
from atoll_server.engine.keys import Scope as KeyScope
from atoll_server.engine.limits import LimitSettings
from atoll_server.engine.model import SandboxId
from atoll_server.network.policy import NO_NETWORK, Policy

Record = TypeVar("Record")
Result = TypeVar("Result")

JSON_TYPE = "application/json"
OCTETS_TYPE = "application/octet-stream"
TAR_TYPE = "application/x-tar"
SMALL_BODY_LIMIT = 64 * 1024
BODY_LIMIT = 1024 * 1024
LARGE_BODY_LIMIT = 8 * 1024 * 1024
BODY_SECONDS = 60.0
SANDBOX_ID_LIMIT = 64
SHOWN_TYPE_LENGTH = 64
SANDBOX_ERRORS = ("SANDBOX_NOT_FOUND", "SANDBOX_NOT_RUNNING", "SANDBOX_FAILED")
"""What every operation can answer that is about something in a running sandbox."""

JSON_HEADERS = ((b"content-type", b"application/json; charset=utf-8"),)


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = JSON_HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_reply(send, self.status, self.body, self.headers)


Answer = Callable[[Scope, Receive, Send], Awaitable[None]]
Handler = Callable[["Call"], Coroutine[Any, Any, Answer]]
SocketHandler = Callable[["Call", Send], Coroutine[Any, Any, None]]


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


class Call:
    """One request, as a handler sees it."""

    __slots__ = (
        "_headers",
        "clock",
        "engine",
        "exposition",
        "keys",
        "operation",
        "receive",
        "scope",
        "settings",
    )

    def __init__(self, scope: Scope, receive: Receive, operation: Operation, api: Api) -> None:
        self.scope = scope
        self.receive = receive
        self.operation = operation
        self.engine = api.engine
        self.settings = api.settings
        self.keys = api.keys
        self.clock = api.clock
        self.exposition = api.exposition
        self._headers: dict[bytes, bytes] = dict(scope["headers"])

    @property
    def request_id(self) -> str:
        request_id: str = self.scope["atoll.request_id"]
        return request_id

    @property
    def key(self) -> ApiKey:
        """The key that came with it. Not for public operations."""
        key: ApiKey = self.scope["atoll.key"]
        return key

    def path_parameter(self, name: str) -> str:
        """What stands in the path where the operation's has `{name}`."""
        text: str = self.scope["path_params"][name]
        return text

    @property
    def sandbox_id(self) -> SandboxId:
        text = self.path_parameter("id")
        if len(text) > SANDBOX_ID_LIMIT or not text.isascii() or not text.isprintable():
            raise SandboxNotFound(
                "no sandbox has such an id: ids look like sb_ and ten letters and digits"
            )
        return SandboxId(text)

    def header(self, name: bytes) -> str:
        """A request header's value, or an empty string."""
        return self._headers.get(name, b"").decode("latin-1")

    def preferred(self, offered: tuple[str, ...]) -> str:
        """Which of these media types the client wants, which is the first where it wants none of them."""
        return preferred(self.header(b"accept"), offered)

    @property
    def media_type(self) -> str:
        """Of the request's body, in lower case, without parameters; empty if the client did not say."""
        return self.header(b"content-type").partition(";")[0].strip().lower()

    def unsupported(self, wanted: str) -> UnsupportedMediaType:
        """What to raise where the body is not of the media type that is `wanted`."""
        got = self.media_type[:SHOWN_TYPE_LENGTH]
        return UnsupportedMediaType(f"the body must be {wanted}; got {got!r}")

    @property
    def content_length(self) -> int | None:
        """The size of the body where the client said, else None."""
        text = self._headers.get(b"content-length", b"")
        return int(text) if text.isdigit() and len(text) < 20 else None

    def query(self, record: type[Record]) -> Record:
        """The query string as a record."""
        try:
            return parse_query(record, self.scope["query_string"])
        except Malformed as error:
            raise InvalidRequest(str(error)) from None

    async def json(self, record: type[Record]) -> Record:
        """The JSON body as a record. Refused before it is read where its size is told and too large."""
        if self.media_type not in ("", JSON_TYPE) or b"content-encoding" in self._headers:
            raise self.unsupported(f"{JSON_TYPE}, not encoded")
        raw = await self._read(self.operation.body_limit)
        try:
            return parse_json(record, raw)
        except Malformed as error:
            raise self.operation.invalid(str(error)) from None

    async def _read(self, limit: int) -> bytes:
        size = self.content_length
        if size is not None and size > limit:
            raise TooLarge(f"the body has {size} bytes; at most {limit} are taken here")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._collect(limit)
        except TimeoutError:
            raise InvalidRequest(f"the body did not come within {BODY_SECONDS:g} s") from None

    async def _collect(self, limit: int) -> bytes:
        chunks: list[bytes] = []
        total = 0
        async for chunk in self._chunks():
            total += len(chunk)
            if total > limit:
                raise TooLarge(f"the body has more than the {limit} bytes that are taken here")
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, of any length. Ends by raising: `ClientGone` where the client goes away before its end,
        `InvalidRequest` where it falls silent.
        """
        patience = self.settings.upload_idle_ms / 1000
        chunks = self._chunks()
        while True:
            try:
                async with asyncio.timeout(patience):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                raise InvalidRequest(f"nothing more of the body came for {patience:g} s") from None
            if chunk is None:
                return
            yield chunk

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return

    async def unless_gone(
        self, work: Coroutine[Any, Any, Result], *, watch_after: float = WATCH_AFTER_SECONDS
    ) -> Result:
        """The result of `work`, which is cancelled as soon as the client goes away. After the body was read."""
        return await unless_gone(self.receive, work, watch_after=watch_after)

    def answer(self, record: Any, *, status: int = 200) -> Reply:
        """This record as the answer."""
        return Reply(render_json(record), status)


@dataclass(frozen=True)
class ApiSettings:
    """What an operator can choose about the API."""

    default_image: str | None = None
    max_lifetime_ms: int = MAX_LIFETIME_MS
    max_command_timeout_ms: int = MAX_COMMAND_TIMEOUT_MS
    rate_limit_per_second: float = 0.0
    auth_failures_per_minute: int = 60
    upload_idle_ms: int = 60_000
    limits: LimitSettings = LimitSettings()
    default_network: Policy = NO_NETWORK
    preview_url: str = "http://{port}-{label}.localhost/"
    version: str = "0"


@dataclass(frozen=True)
class Api:
    """What all operations share."""

    engine: Engine
    settings: ApiSettings
    keys: Keys
    clock: Clock
    exposition: Exposition


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
        scope["atoll.route"] = operation.path
        _check(operation, scope)
        answer = await operation.handler(Call(scope, receive, operation, self._api))
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
        scope["atoll.route"] = self._operation.path
        _check(self._operation, scope)
        await self._operation.socket(Call(scope, receive, self._operation, self._api), send)


def make_routes(operations: Sequence[Operation], api: Api) -> list[BaseRoute]:
    """A route for each path, in the order of the operations: those asked for most come first."""
    paths = dict.fromkeys(operation.path for operation in operations)
    routes: list[BaseRoute] = [
        Route(path, Resource([op for op in operations if op.path == path], api), name=path)
        for path in paths
    ]
    sockets = [operation for operation in operations if operation.socket is not None]
    return [*routes, *(WebSocketRoute(op.path, SocketResource(op, api)) for op in sockets)]


def _check(operation: Operation, scope: Scope) -> None:
    if operation.scope is not None and operation.scope not in scope["atoll.key"].scopes:
        raise Forbidden(f"this key lacks the scope {operation.scope.value}")
    if operation.query is None and scope["query_string"]:
        raise InvalidRequest("this operation takes no query parameters")


async def send_reply(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = JSON_HEADERS
) -> None:
    """Send a whole answer."""
    sized = [*headers] if status == 204 else [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": sized})
    await send({"type": "http.response.body", "body": body})
