# SPDX-License-Identifier: Apache-2.0
"""The application behind the server it runs in, over a unix socket."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import uvicorn

from atoll_server.api import stalls
from atoll_server.api.connection import HEAD_BYTES
from atoll_server.api.settings import ApiSettings
from atoll_server.api.stalls import STALL_SECONDS, StallWatch
from atoll_server.engine.model import SandboxId
from atoll_server.serving import make_config
from tests.unit.api.memory import KEY, Client

pytestmark = pytest.mark.anyio


class Quiet(uvicorn.Server):
    """uvicorn without its signal handlers."""

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self._serve([listener]))
                yield
                self.should_exit = True
                await running


@pytest.fixture
async def client() -> Client:
    client = Client()
    await client.create()
    return client


@pytest.fixture
async def path(client: Client, tmp_path: Path) -> AsyncIterator[Path]:
    async with Quiet(make_config(client.app)).listening(tmp_path / "s"):
        yield tmp_path / "s"


async def exchange(path: Path, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(raw)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def request(method: str, target: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [
        f"{method} {target} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {KEY}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_answer_comes_whole(path: Path) -> None:
    answer = await exchange(path, request("GET", "/v1/health", b"", "connection: close"))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == "ok"


@pytest.mark.parametrize(
    "raw",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * (2 * HEAD_BYTES),
    ],
)
async def test_what_is_not_http_is_a_bad_request_in_our_form(path: Path, raw: bytes) -> None:
    answer = await exchange(path, raw)

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/json; charset=utf-8\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "INVALID_REQUEST"


async def test_connection_lives_on_after_a_short_body_that_was_refused(path: Path) -> None:
    refused = request("POST", "/v1/nowhere", b" " * 10_000)

    answers = await exchange(path, refused + request("GET", "/v1/health", b"", "connection: close"))

    assert answers.startswith(b"HTTP/1.1 404 ")
    assert b"HTTP/1.1 200 OK\r\n" in answers


CHUNKED = (
    request("POST", "/v1/sandboxes")
    .replace(b"content-length: 0", b"transfer-encoding: chunked")
    .replace(b"\r\n\r\n", b"\r\n\r\n200000\r\n" + b" " * 0x200000)
)
LONG_BODY = b" " * 2_000_000


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(request("POST", "/v1/sandboxes", LONG_BODY)[:300], 413, id="nothing sent"),
        pytest.param(request("POST", "/v1/sandboxes", LONG_BODY)[:-1], 413, id="nearly all sent"),
        pytest.param(CHUNKED, 413, id="chunked, not at its end"),
        pytest.param(request("POST", "/v1/nowhere", LONG_BODY)[:-1], 404, id="no such route"),
        pytest.param(
            request("POST", "/v1/sandboxes", LONG_BODY)[:-1].replace(KEY.encode(), b"no"),
            401,
            id="unknown key",
        ),
    ],
)
async def test_refusal_of_a_long_body_comes_before_its_end_and_ends_the_connection(
    path: Path, raw: bytes, status: int
) -> None:
    answer = await exchange(path, raw)  # which returns at the end of the connection

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nconnection: close\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]


async def test_client_that_reads_only_after_it_has_sent_all_gets_its_refusal(path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request("POST", "/v1/sandboxes", b" " * 20_000_000))

    async with asyncio.timeout(10):
        await writer.drain()
        while not reader.at_eof():
            answer = await reader.read()

    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_client_that_may_not_is_told_before_it_sends(path: Path) -> None:
    head = request(
        "PUT",
        "/v1/sandboxes/sb_none/files?path=a",
        b"",
        "expect: 100-continue",
        "connection: close",
    )

    answer = await exchange(path, head.replace(b"content-length: 0", b"content-length: 1000000000"))

    assert answer.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("accept", ["application/json", "application/vnd.atoll.frames"])
async def test_command_is_killed_when_the_connection_closes(
    client: Client, path: Path, accept: str
) -> None:
    target = "/v1/sandboxes/sb_0000000000/execute"
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(request("POST", target, b'{"command":["sleep"]}', f"accept: {accept}"))
    await client.engine.commanded.wait()

    writer.close()

    async with asyncio.timeout(5):
        await client.engine.left.wait()
    assert client.engine.left_early == client.engine.commands


async def test_half_an_upload_is_no_file(client: Client, path: Path) -> None:
    target = "/v1/sandboxes/sb_0000000000/files?path=a"
    raw = request("PUT", target, b"x" * 100).replace(
        b"application/json", b"application/octet-stream"
    )
    _, writer = await asyncio.open_unix_connection(path)

    writer.write(raw[:-1])
    await writer.drain()
    writer.close()
    whole = await exchange(
        path, raw.replace(b"path=a", b"path=b").replace(b"host: x", b"host: x\r\nconnection: close")
    )

    assert whole.startswith(b"HTTP/1.1 200 OK")
    assert client.engine.disks[next(iter(client.engine.disks))].content.keys() == {b"/workspace/b"}


async def test_upload_that_falls_silent_is_no_file(tmp_path: Path) -> None:
    client = Client(settings=ApiSettings(upload_idle_ms=1))
    await client.create()
    raw = request("PUT", "/v1/sandboxes/sb_0000000000/files?path=a", b"x" * 100_000)

    async with Quiet(make_config(client.app)).listening(tmp_path / "s"):
        answer = await exchange(
            tmp_path / "s", raw[:-1].replace(b"application/json", b"application/octet-stream")
        )

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"nothing more of the body came for 0.001 s" in answer
    assert client.engine.disks[SandboxId("sb_0000000000")].content == {}


async def test_stream_that_is_not_read_holds_back_its_command(client: Client, path: Path) -> None:
    target = "/v1/sandboxes/sb_0000000000/execute"
    reader, writer = await asyncio.open_unix_connection(path)
    body = b'{"command":["flood","100000000"]}'
    writer.write(
        request("POST", target, body, "accept: application/vnd.atoll.frames", "connection: close")
    )
    await client.engine.commanded.wait()
    for _ in range(200):
        await asyncio.sleep(0)

    before = client.engine.played
    total = 0
    async with asyncio.timeout(20):
        while chunk := await reader.read(1 << 20):
            total += len(chunk)
    writer.close()

    assert before < 10_000_000
    assert total > 99_000_000


class SlowTransport:
    """A transport whose peer takes what a test says."""

    def __init__(self) -> None:
        self.left = 100
        self.was_aborted = False

    def get_write_buffer_size(self) -> int:
        return self.left

    def abort(self) -> None:
        self.was_aborted = True


class TimerLoop:
    """Timers that go off when a test says so."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_later(self, seconds: float, work: Callable[[], None]) -> asyncio.TimerHandle:
        assert seconds == STALL_SECONDS
        self.due.append(work)
        return asyncio.TimerHandle(0, work, (), asyncio.get_running_loop())

    def pass_time(self) -> None:
        self.due.pop()()


async def test_reader_is_let_go_only_once_it_takes_nothing() -> None:
    transport, loop = SlowTransport(), TimerLoop()
    watch = StallWatch(cast(asyncio.Transport, transport), cast(asyncio.AbstractEventLoop, loop))
    watch.begin()

    for left in (99, 50, 49):
        transport.left = left
        loop.pass_time()
        assert not transport.was_aborted
    loop.pass_time()

    assert transport.was_aborted


async def test_client_that_reads_nothing_is_let_go_and_its_command_with_it(
    client: Client, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "STALL_SECONDS", 0.05)
    body = b'{"command": ["flood", "100000000"]}'
    _, writer = await asyncio.open_unix_connection(path, limit=1024)
    writer.write(
        b"POST /v1/sandboxes/sb_0000000000/execute HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Bearer %b\r\nAccept: application/vnd.atoll.frames\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (KEY.encode(), len(body), body)
    )

    async with asyncio.timeout(10):
        await client.engine.left.wait()

    assert client.engine.played < 10_000_000
    writer.close()
