# SPDX-License-Identifier: Apache-2.0
"""One request, as the handler of its operation sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from atoll_server.api.accept import preferred
from atoll_server.api.departures import WATCH_AFTER_SECONDS, unless_gone
from atoll_server.api.errors import ClientGone, UnsupportedMediaType
from atoll_server.api.exposition import Exposition
from atoll_server.api.records import Malformed, parse_json, parse_query, render_json
from atoll_server.api.reply import JSON_TYPE, Reply
from atoll_server.api.settings import ApiSettings
from atoll_server.clock import Clock
from atoll_server.engine.engine import Engine
from atoll_server.engine.errors import EngineError, InvalidRequest, SandboxNotFound, TooLarge
from atoll_server.engine.keys import ApiKey, Keys
from atoll_server.engine.model import SandboxId

Record = TypeVar("Record")
Result = TypeVar("Result")

BODY_SECONDS = 60.0
SANDBOX_ID_LIMIT = 64
SHOWN_TYPE_LENGTH = 64


@dataclass(frozen=True)
class Api:
    """What all operations share."""

    engine: Engine
    settings: ApiSettings
    keys: Keys
    clock: Clock
    exposition: Exposition


class Call:
    """What the request says, and what all operations share. JSON of more than `body_limit` bytes is not read, and what
    is not the record that was asked for is `invalid`.
    """

    __slots__ = (
        "_body_limit",
        "_headers",
        "_invalid",
        "clock",
        "engine",
        "exposition",
        "keys",
        "receive",
        "scope",
        "settings",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        api: Api,
        *,
        body_limit: int,
        invalid: type[EngineError],
    ) -> None:
        self.scope = scope
        self.receive = receive
        self._body_limit = body_limit
        self._invalid = invalid
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
        raw = await self._read(self._body_limit)
        try:
            return parse_json(record, raw)
        except Malformed as error:
            raise self._invalid(str(error)) from None

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
