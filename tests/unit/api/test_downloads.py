# SPDX-License-Identifier: Apache-2.0
"""Parts of files over HTTP, of files that change while they are asked for too."""

from __future__ import annotations

import pytest

from tests.unit.api.memory import KEY, Answered, Client, Exchange, MemoryFiles, make_scope

pytestmark = pytest.mark.anyio

DATA = bytes(range(100))
PATH = b"/f"


class Download:
    """One file of one sandbox, over HTTP."""

    def __init__(self, client: Client, root: str, files: MemoryFiles) -> None:
        self.client = client
        self.target = f"{root}?path=/f"
        self.files = files
        files.content[PATH] = DATA

    async def get(self, **headers: str) -> Answered:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(
            "GET", self.target, headers={"accept": "application/octet-stream", **named}
        )

    async def etag(self) -> str:
        return (await self.get()).headers[b"etag"].decode()


@pytest.fixture
async def download() -> Download:
    client = Client()
    sandbox_id = await client.create()
    root = f"/v1/sandboxes/{sandbox_id}/files"
    return Download(client, root, client.engine.disks[sandbox_id])


def part(answer: Answered) -> tuple[int, bytes, bytes]:
    assert answer.headers[b"content-length"] == b"%d" % len(answer.body)
    return answer.status, answer.headers[b"content-range"], answer.body


@pytest.mark.parametrize(
    ("asked", "told", "data"),
    [
        ("bytes=0-9", b"bytes 0-9/100", DATA[:10]),
        ("bytes=90-", b"bytes 90-99/100", DATA[90:]),
        ("bytes=90-1000", b"bytes 90-99/100", DATA[90:]),
        ("bytes=99-99999999999999999999999999", b"bytes 99-99/100", DATA[99:]),
        ("bytes=-10", b"bytes 90-99/100", DATA[90:]),
        ("bytes=-1000", b"bytes 0-99/100", DATA),
        ("bytes=0-", b"bytes 0-99/100", DATA),
    ],
)
async def test_a_range_is_sent_alone(
    download: Download, asked: str, told: bytes, data: bytes
) -> None:
    assert part(await download.get(range=asked)) == (206, told, data)


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "bytes=5-1", "bytes=-1-2", "lines=1-2", "bytes", "bytes=x-"]
)
async def test_what_is_no_range_gives_the_whole(download: Download, asked: str) -> None:
    answer = await download.get(range=asked)

    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers[b"accept-ranges"] == b"bytes"
    assert b"content-range" not in answer.headers


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=100-200", "bytes=-0", f"bytes={2**70}-"])
async def test_a_range_without_a_byte_cannot_be_satisfied(download: Download, asked: str) -> None:
    answer = await download.get(range=asked)

    assert (answer.status, answer.code) == (416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers[b"content-range"] == b"bytes */100"


@pytest.mark.parametrize("asked", [f"bytes={2**60}-", "bytes=-5"])
async def test_the_agent_is_asked_for_no_offset_that_no_file_can_have(
    download: Download, asked: str
) -> None:
    await download.get(range=asked)

    assert download.files.opened[0] == (0, 0)
    assert all(offset <= 100 for offset, _ in download.files.opened)


async def test_a_range_of_json_is_the_whole(download: Download) -> None:
    answer = await download.client.request(
        "GET", download.target, headers={"range": "bytes=0-1", "accept": "application/json"}
    )

    assert (answer.status, answer.json["content"].encode()) == (200, DATA)


async def test_a_file_without_a_size_is_sent_whole(download: Download) -> None:
    download.files.content[PATH] = b""

    for asked in ("bytes=0-9", "bytes=5-", "bytes=-5"):
        answer = await download.get(range=asked)
        assert (answer.status, answer.body) == (200, b"")
        assert b"etag" not in answer.headers


async def test_a_part_of_the_same_file_goes_on(download: Download) -> None:
    answer = await download.get(range="bytes=50-", if_range=await download.etag())

    assert part(answer) == (206, b"bytes 50-99/100", DATA[50:])
    assert answer.headers[b"etag"].decode() == await download.etag()


@pytest.mark.parametrize("asked", ["bytes=50-", "bytes=-50", "bytes=5000-"])
async def test_a_part_of_another_file_is_the_whole_of_it(download: Download, asked: str) -> None:
    etag = await download.etag()
    download.files.changed_ns[PATH] = 1

    answer = await download.get(range=asked, if_range=etag)

    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers[b"etag"].decode() == await download.etag() != etag


async def test_nothing_vouches_for_a_file_that_may_still_change_unseen(download: Download) -> None:
    download.files.changed_ns[PATH] = int(download.client.engine.clock.now().timestamp() * 1e9)
    etag = await download.etag()

    answer = await download.get(range="bytes=50-", if_range=etag)

    assert etag.startswith('W/"')
    assert (answer.status, answer.body) == (200, DATA)


async def test_a_part_that_is_cut_short_is_no_whole_answer(download: Download) -> None:
    def shrink(path: bytes) -> None:
        download.files.content[path] = DATA[:60]

    download.files.before_reading = shrink
    exchange = Exchange([b""])
    headers = {"accept": "application/octet-stream", "range": "bytes=50-"}

    await download.client.call(make_scope("GET", download.target, headers, KEY), exchange)

    assert exchange.content == DATA[50:60]
    assert exchange.sent[-1].get("more_body")


async def test_head_of_a_range_is_that_of_the_whole(download: Download) -> None:
    exchange = Exchange([b""])
    headers = {"accept": "application/octet-stream", "range": "bytes=50-"}

    await download.client.call(make_scope("HEAD", download.target, headers, KEY), exchange)

    assert exchange.sent[0]["status"] == 200
    assert dict(exchange.sent[0]["headers"])[b"accept-ranges"] == b"bytes"
    assert exchange.content == b""
