# SPDX-License-Identifier: Apache-2.0
"""Many files in one request."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterable
from typing import Any

import pytest

from atoll_server.api.native.file_batches import BATCH_CONTENT_LIMIT
from atoll_server.api.routing import LARGE_BODY_LIMIT
from atoll_server.engine import errors
from atoll_server.engine.model import Written
from tests.unit.api.memory import KEY, Answered, Client, Exchange, MemoryFiles, make_scope

pytestmark = pytest.mark.anyio

TOO_MANY = 1001


class Disk:
    """The files of one sandbox, many at once."""

    def __init__(self, client: Client, root: str, files: MemoryFiles) -> None:
        self.client = client
        self.root = f"{root}/files/batch"
        self.files = files
        self.content = files.content

    async def write(self, *files: dict[str, Any]) -> Answered:
        return await self.client.request("POST", f"{self.root}/write", {"files": files})

    async def read(self, *paths: str) -> Answered:
        files = [{"path": path} for path in paths]
        return await self.client.request("POST", f"{self.root}/read", {"files": files})


@pytest.fixture
async def disk() -> Disk:
    client = Client()
    sandbox_id = await client.create()
    return Disk(client, f"/v1/sandboxes/{sandbox_id}", client.engine.disks[sandbox_id])


async def test_files_are_written_and_read_in_order(disk: Disk) -> None:
    files = [{"path": f"{number}", "content": f"text {number}"} for number in range(1000)]

    written = (await disk.write(*files)).json
    read = (await disk.read(*(file["path"] for file in files))).json

    assert (written["failed"], read["failed"]) == (0, 0)
    assert written["data"][7] == {
        "path": "7",
        "written": {"path": "/workspace/7", "sizeBytes": 6, "created": True},
        "error": None,
    }
    assert [one["file"]["content"] for one in read["data"]] == [file["content"] for file in files]
    assert read["data"][7]["path"] == "7"
    assert read["data"][7]["error"] is None


async def test_content_and_paths_may_be_any_bytes(disk: Disk) -> None:
    raw = {"path": "/w==", "pathEncoding": "base64", "content": "/wA=", "encoding": "base64"}

    written = await disk.write(raw, {"path": "nul", "content": "\0"})
    body = {"files": [{"path": "/w==", "pathEncoding": "base64"}, {"path": "nul"}]}
    read = await disk.client.request("POST", f"{disk.root}/read", body)

    assert written.json["failed"] == 0
    assert disk.content == {b"/workspace/\xff": b"\xff\0", b"/workspace/nul": b"\0"}
    assert [one["file"]["content"] for one in read.json["data"]] == ["/wA=", "AA=="]
    assert {one["file"]["encoding"] for one in read.json["data"]} == {"base64"}


async def test_a_file_that_is_missing_is_an_error_in_its_place(disk: Disk) -> None:
    disk.content[b"/workspace/a"] = b"a"

    answer = (await disk.read("none", "a", ".", "a")).json

    assert answer["failed"] == 2
    assert [one["file"] and one["file"]["content"] for one in answer["data"]] == [
        None,
        "a",
        None,
        "a",
    ]
    error = answer["data"][0]["error"]
    assert error.keys() == {"code", "message", "retryable", "reason"}
    assert (error["code"], error["reason"]) == ("FILE_NOT_FOUND", None)


async def test_a_file_that_fails_keeps_none_from_being_written(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = disk.files.write

    async def refusing(path: bytes, chunks: AsyncIterable[bytes], **options: Any) -> Written:
        if path == b"full":
            raise errors.FileError("no space left on device", reason="no_space")
        return await write(path, chunks, **options)  # type: ignore[arg-type] # the memory takes both

    monkeypatch.setattr(disk.files, "write", refusing)

    answer = (
        await disk.write(*({"path": name, "content": ""} for name in ("a", "full", "b")))
    ).json

    assert answer["failed"] == 1
    assert answer["data"][1]["written"] is None
    assert answer["data"][1]["error"]["reason"] == "no_space"
    assert disk.content.keys() == {b"/workspace/a", b"/workspace/b"}


async def test_a_sandbox_that_breaks_ends_the_whole(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(path: bytes, chunks: AsyncIterable[bytes], **options: Any) -> Written:
        raise errors.SandboxFailed("the sandbox is gone")

    monkeypatch.setattr(disk.files, "write", broken)

    answer = await disk.write(*({"path": f"{n}", "content": ""} for n in range(20)))

    assert (answer.status, answer.code) == (409, "SANDBOX_FAILED")


async def test_what_does_not_fit_into_the_answer_is_left_out_and_not_read(disk: Disk) -> None:
    half = BATCH_CONTENT_LIMIT // 2
    disk.content |= {b"/one": b"x" * half, b"/two": b"y" * (half + 1), b"/three": b"z" * half}
    started: list[bytes] = []
    disk.files.before_reading = started.append

    answer = (await disk.read("/one", "/two", "/three", "/none")).json

    errors_told = [one["error"] and one["error"]["code"] for one in answer["data"]]
    assert errors_told == [None, "TOO_LARGE", None, "FILE_NOT_FOUND"]
    assert b"/two" not in started
    assert [len(one["file"]["content"]) for one in answer["data"] if one["file"]] == [half, half]


async def test_a_file_that_is_more_than_its_size_says_takes_no_more_room_either(
    disk: Disk,
) -> None:
    """As under /proc, where all sizes are zero."""
    disk.content |= {b"/endless": b"", b"/small": b"x"}

    def grow(path: bytes) -> None:
        if path == b"/endless":
            disk.content[path] = b"x" * (BATCH_CONTENT_LIMIT + 1)

    disk.files.before_reading = grow

    answer = (await disk.read("/endless", "/small")).json

    assert answer["data"][0]["error"]["code"] == "TOO_LARGE"
    assert answer["data"][1]["file"]["content"] == "x"


async def test_text_that_json_would_blow_up_is_sent_as_base64(disk: Disk) -> None:
    data = b"\x01" * 6000
    disk.content[b"/f"] = data

    answer = await disk.read("/f")

    assert len(answer.body) < 2 * len(data)
    assert base64.b64decode(answer.json["data"][0]["file"]["content"]) == data


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([{"path": "a", "content": ""}, {"path": "/workspace/a", "content": ""}], "files 0 and 1"),
        ([{"path": "a", "content": ""}] * 2, "same path"),
        ([{"path": "a\0b", "content": ""}], "`files[0].path` must not contain NUL"),
        ([{"path": "YQBi", "pathEncoding": "base64", "content": ""}], "NUL"),
        ([{"path": "a", "content": ""}, {"path": "", "content": ""}], "`files[1].path`"),
        ([{"path": "x" * 5465, "content": ""}], "`files[0].path` must be at most 5464"),
        ([{"path": "a", "content": "x", "encoding": "base64"}], "`files[0].content` is not base64"),
        ([{"path": "a", "content": "", "encoding": "hex"}], "`files[0].encoding` must be one of"),
        ([{"path": "a", "content": "", "mode": "0999"}], "`files[0].mode` must be octal digits"),
        (
            [{"path": "a", "content": "", "owner": "x"}],
            "unknown field `owner` in `files[0]`; known: path, content",
        ),
        ([{"path": "a", "content": 5}], "`files[0].content`: expected str"),
        ([{"content": ""}], "`path` is missing"),
        (["a"], "`files[0]`: expected object"),
        ([], "`files` must have 1 to 1000 entries; got 0"),
        ([{"path": f"{n}", "content": ""} for n in range(TOO_MANY)], "got 1001"),
        ({"a": "b"}, "expected array"),
        (None, "expected array"),
    ],
)
async def test_a_bad_batch_is_refused_whole(disk: Disk, files: Any, says: str) -> None:
    answer = await disk.client.request("POST", f"{disk.root}/write", {"files": files})

    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert says in answer.json["error"]["message"]
    assert not disk.content


@pytest.mark.parametrize("count", [0, TOO_MANY])
async def test_too_few_and_too_many_are_not_read(disk: Disk, count: int) -> None:
    answer = await disk.read(*["a"] * count)

    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "body",
    [
        b'{"files":' + b"[" * 100_000,
        b'{"files":[' + b'{"path":' * 100_000,
        b'{"files":[{"path":"a","content":"","path":"b"}]}',
        b'{"files":[{"path":"a","content":""}],"files":[]}',
        b'{"files":[{"path":"a","content":""}]',
    ],
    ids=["arrays", "objects", "repeated name", "repeated field", "cut short"],
)
async def test_json_that_is_none_or_too_deep_is_refused(disk: Disk, body: bytes) -> None:
    answer = await disk.client.request("POST", f"{disk.root}/write", body)

    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert not disk.content


@pytest.mark.parametrize("verb", ["write", "read"])
async def test_a_body_over_the_limit_is_refused_before_it_is_read(disk: Disk, verb: str) -> None:
    exchange = Exchange([b"x"])
    headers = {"content-length": str(LARGE_BODY_LIMIT + 1)}

    await disk.client.call(make_scope("POST", f"{disk.root}/{verb}", headers, KEY), exchange)

    assert exchange.sent[0]["status"] == 413
    assert exchange.body == [b"x"]


async def test_a_client_that_leaves_stops_the_writing(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bytes] = []
    stopped: list[bytes] = []
    waiting = asyncio.Event()

    async def write(path: bytes, chunks: AsyncIterable[bytes], **options: Any) -> Written:
        begun.append(path)
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(path)
        raise AssertionError("nobody sets that event")

    monkeypatch.setattr(disk.files, "write", write)
    files = [{"path": f"{number}", "content": ""} for number in range(100)]
    exchange = Exchange([json.dumps({"files": files}).encode()])

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        scope = make_scope("POST", f"{disk.root}/write", {}, KEY)
        group.create_task(disk.client.call(scope, exchange))
        await waiting.wait()
        exchange.gone.set()

    assert not exchange.sent
    assert len(begun) < 100
    assert sorted(stopped) == sorted(begun)
