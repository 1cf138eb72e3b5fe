# SPDX-License-Identifier: Apache-2.0
import asyncio
import base64
from typing import Any

import pytest

from atoll_server.api.routing import LARGE_BODY_LIMIT
from atoll_server.engine.model import SandboxId
from tests.unit.api.memory import KEY, Answered, Client, Exchange, answered, make_scope

pytestmark = pytest.mark.anyio

OCTETS = {"content-type": "application/octet-stream"}
RAW = {"accept": "application/octet-stream"}


class Disk:
    """The files of one sandbox, over HTTP."""

    def __init__(self, client: Client, sandbox_id: SandboxId) -> None:
        self.client = client
        self.root = f"/v1/sandboxes/{sandbox_id}/files"
        self.content = client.engine.disks[sandbox_id].content

    async def request(self, method: str, rest: str, body: Any = None, **headers: str) -> Answered:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(method, self.root + rest, body, headers=named)

    async def put(self, path: str, data: bytes) -> Answered:
        return await self.client.request("PUT", f"{self.root}?path={path}", data, headers=OCTETS)


@pytest.fixture
async def disk() -> Disk:
    client = Client()
    return Disk(client, await client.create())


async def test_bytes_written_are_bytes_read(disk: Disk) -> None:
    data = bytes(range(256)) * 1000

    written = await disk.put("/a/b", data)
    read = await disk.client.request("GET", f"{disk.root}?path=/a/b", headers=RAW)

    assert written.json == {"path": "/a/b", "sizeBytes": 256_000, "created": True}
    assert (read.status, read.body) == (200, data)
    assert read.headers[b"content-type"] == b"application/octet-stream"


async def test_text_is_read_as_text_and_anything_else_as_base64(disk: Disk) -> None:
    await disk.put("/text", "grüße".encode())
    await disk.put("/bytes", b"\xff")

    assert (await disk.request("GET", "?path=/text")).json == {
        "content": "grüße",
        "encoding": "utf-8",
        "path": "/text",
        "mode": "0644",
    }
    assert (await disk.request("GET", "?path=/bytes")).json["content"] == base64.b64encode(
        b"\xff"
    ).decode()


@pytest.mark.parametrize(
    ("body", "data"),
    [
        ({"content": "a\0`$'\"\n"}, b"a\0`$'\"\n"),
        ({"content": "", "mode": "0755"}, b""),
        ({"content": "/w==", "encoding": "base64"}, b"\xff"),
    ],
)
async def test_content_may_be_written_as_json(
    disk: Disk, body: dict[str, str], data: bytes
) -> None:
    answer = await disk.request("PUT", "?path=x", body)

    assert answer.status == 200
    assert disk.content[b"/workspace/x"] == data


async def test_append_adds(disk: Disk) -> None:
    await disk.put("/log", b"a")
    await disk.put("/log&append=true", b"b")

    assert disk.content[b"/log"] == b"ab"


async def test_name_may_be_any_bytes(disk: Disk) -> None:
    await disk.put("%ff%2e%0a", b"x")

    assert disk.content[b"/workspace/\xff.\n"] == b"x"
    assert (await disk.request("GET", "/exists?path=%ff.%0a")).json == {"exists": True}
    assert (await disk.request("GET", "/stat?path=%ff.%0a")).json[
        "name"
    ] == "\N{REPLACEMENT CHARACTER}.\n"


async def test_name_that_json_cannot_hold_is_written_as_base64(disk: Disk) -> None:
    await disk.put("%ff", b"x")

    body = {"source": "/w==", "destination": "L/4=", "pathEncoding": "base64"}
    moved = await disk.request("POST", "/move", body)

    assert moved.status == 200
    assert disk.content == {b"/\xfe": b"x"}


@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("POST", "/mkdir", {"path": "/w==", "pathEncoding": "hex"}),
        ("POST", "/mkdir", {"path": "\xff", "pathEncoding": "base64"}),
        ("POST", "/mkdir", {"path": "QUJD" * 1366, "pathEncoding": "base64"}),
        ("GET", "", None),
        ("GET", "?path=", None),
        ("GET", "?path=%00", None),
        ("GET", "?path=" + "a" * 5000, None),
        ("GET", "?path=a&path=b", None),
        ("GET", "?path=a&mode=0644", None),
        ("PUT", "?path=a&mode=0999", {"content": ""}),
        ("PUT", "?path=a&mode=17777", {"content": ""}),
        ("PUT", "?path=a&append=yes", {"content": ""}),
        ("PUT", "?path=a", {"content": "x", "encoding": "hex"}),
        ("PUT", "?path=a", {"content": "x", "encoding": "base64"}),
        ("PUT", "?path=a", {"content": 1}),
        ("PUT", "?path=a", {"content": "", "mode": "rwx"}),
        ("PUT", "?path=a", b"not json"),
        ("DELETE", "", None),
        ("DELETE", "?path=a&recursive=1", None),
        ("GET", "/list?path=a&depth=33", None),
        ("GET", "/list?path=a&limit=10001", None),
        ("GET", "/list?path=a&limit=-1", None),
        ("POST", "/mkdir", {"path": ""}),
        ("POST", "/mkdir", {"path": "a\0b"}),
        ("POST", "/mkdir", {"path": "a", "mode": "9"}),
        ("POST", "/mkdir", {"path": "a", "mode": "0755\n"}),
        ("POST", "/mkdir", {"path": "a", "deep": True}),
        ("POST", "/move", {"source": "a"}),
        ("POST", "/move", {"source": "a", "destination": ""}),
        ("POST", "/copy", {"source": "x" * 4097, "destination": "b"}),
        ("POST", "/chmod", {"path": "a", "mode": ""}),
        ("POST", "/chmod", {"path": "a", "mode": 0o755}),
        ("POST", "/chown", {"path": "a", "user": "x" * 65}),
    ],
)
async def test_bad_file_request_is_refused_and_changes_nothing(
    disk: Disk, method: str, rest: str, body: Any
) -> None:
    answer = await disk.request(method, rest, body)

    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert not disk.content


@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("GET", "?path=/none", None),
        ("DELETE", "?path=/none", None),
        ("GET", "/stat?path=/none", None),
        ("POST", "/move", {"source": "/none", "destination": "/b"}),
        ("POST", "/copy", {"source": "/none", "destination": "/b"}),
        ("POST", "/chmod", {"path": "/none", "mode": "0755"}),
        ("POST", "/chown", {"path": "/none", "user": "user"}),
        ("GET", "/archive?path=/none", None),
    ],
)
async def test_missing_file_is_not_found(disk: Disk, method: str, rest: str, body: Any) -> None:
    answer = await disk.request(method, rest, body)

    assert (answer.status, answer.code) == (404, "FILE_NOT_FOUND")


async def test_missing_file_read_raw_is_an_error_before_any_byte(disk: Disk) -> None:
    answer = await disk.client.request("GET", f"{disk.root}?path=/none", headers=RAW)

    assert answer.code == "FILE_NOT_FOUND"


async def test_file_system_says_why_not(disk: Disk) -> None:
    answer = await disk.request("POST", "/mkdir", {"path": "/workspace"})

    assert (answer.status, answer.code) == (409, "FILE_ERROR")
    assert answer.json["error"]["reason"] == "exists"


async def test_changes_answer_with_what_is_there_then(disk: Disk) -> None:
    await disk.put("/a", b"abc")

    made = await disk.request("POST", "/mkdir", {"path": "sub", "recursive": True})
    copied = await disk.request("POST", "/copy", {"source": "/a", "destination": "/b"})
    moved = await disk.request("POST", "/move", {"source": "/b", "destination": "/c"})
    owned = await disk.request("POST", "/chown", {"path": "/c", "user": "0"})

    assert (made.json["path"], made.json["isDirectory"]) == ("/workspace/sub", True)
    assert [answer.json["path"] for answer in (copied, moved, owned)] == ["/b", "/c", "/c"]
    assert owned.json == {
        "name": "c",
        "path": "/c",
        "type": "file",
        "isDirectory": False,
        "sizeBytes": 3,
        "mode": "0644",
        "uid": 0,
        "gid": 0,
        "user": "root",
        "group": "root",
        "modifiedAt": "1970-01-01T00:00:00.000Z",
        "target": None,
    }


async def test_list_says_whether_there_is_more(disk: Disk) -> None:
    for name in ("a", "b", "c"):
        await disk.put(f"/d/{name}", b"x")

    listed = await disk.request("GET", "/list?path=/d&limit=2")

    assert [entry["name"] for entry in listed.json["data"]] == ["a", "b"]
    assert listed.json["truncated"]
    assert listed.json["pagination"] == {"total": 2, "limit": 2, "offset": 0, "hasMore": True}


async def test_removed_file_is_gone(disk: Disk) -> None:
    await disk.put("/a", b"")

    removed = await disk.request("DELETE", "?path=/a")

    assert (removed.status, removed.body) == (204, b"")
    assert (await disk.request("GET", "/exists?path=/a")).json == {"exists": False}


async def test_upload_that_breaks_off_leaves_no_file(disk: Disk) -> None:
    exchange = Exchange([b"half"], ends_body=False)
    exchange.gone.set()

    await disk.client.call(make_scope("PUT", f"{disk.root}?path=/a", OCTETS, KEY), exchange)

    assert not exchange.sent
    assert not disk.content


async def test_other_bodies_are_refused(disk: Disk) -> None:
    written = await disk.request("PUT", "?path=/a", b"x", content_type="text/plain")
    unpacked = await disk.request("PUT", "/archive?path=/a", b"x")

    assert (written.code, unpacked.code) == ("UNSUPPORTED_MEDIA_TYPE", "UNSUPPORTED_MEDIA_TYPE")


async def test_large_file_is_read_raw_only(disk: Disk) -> None:
    disk.content[b"/big"] = b"x" * (LARGE_BODY_LIMIT + 1)

    as_json = await disk.request("GET", "?path=/big")
    raw = await disk.client.request("GET", f"{disk.root}?path=/big", headers=RAW)

    assert (as_json.status, as_json.code) == (413, "TOO_LARGE")
    assert len(raw.body) == LARGE_BODY_LIMIT + 1


async def test_archive_travels_both_ways(disk: Disk) -> None:
    down = await disk.request("GET", "/archive?path=/workspace")
    up = await disk.request("PUT", "/archive?path=/new", b"tar", content_type="application/x-tar")

    assert (down.status, down.headers[b"content-type"], down.body) == (
        200,
        b"application/x-tar",
        b"tar",
    )
    assert up.json == {"entries": 1}


async def test_download_is_given_up_when_the_client_goes_away(disk: Disk) -> None:
    disk.content[b"/big"] = b"x" * 10_000_000
    exchange = Exchange([b""])
    scope = make_scope("GET", f"{disk.root}?path=/big", RAW, KEY)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(disk.client.call(scope, exchange))
        await exchange.wait_sent(1)
        exchange.writable.clear()
        exchange.gone.set()

    assert len(exchange.content) < 10_000_000


async def test_head_of_a_file_sends_none_of_it(disk: Disk) -> None:
    await disk.put("/a", b"abc")
    exchange = Exchange([b""])

    await disk.client.call(make_scope("HEAD", f"{disk.root}?path=/a", RAW, KEY), exchange)

    assert answered(exchange).body == b""
