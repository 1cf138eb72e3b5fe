# SPDX-License-Identifier: Apache-2.0
"""Gigabytes through streams that nobody holds whole, and uploads that end anywhere."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import socket
from collections.abc import Iterator

import pytest

from atoll import Atoll, Sandbox
from tests.support.api import Api
from tests.support.processes import open_files, resident_mb
from tests.support.server import HOUR_MS, ServerProcess
from tests.support.waiting import wait_until

MIB = 1 << 20
GIB = 1 << 30
ALLOWED_GROWTH_MB = 32
SAMPLED_EVERY = 64 * MIB
DISK_MB = 20_480
CUT_SHORT = 40
FILE_BYTES = 7000


class Memory:
    """The most that the server held, looked at while bytes pass."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.before = self.most = resident_mb(pid)
        self._passed = 0

    def pass_by(self, count: int) -> None:
        self._passed += count
        if self._passed >= SAMPLED_EVERY:
            self._passed = 0
            self.most = max(self.most, resident_mb(self._pid))

    @property
    def growth_mb(self) -> float:
        return self.most - self.before


class Sink(io.RawIOBase):
    """Takes everything and keeps its digest."""

    def __init__(self, memory: Memory) -> None:
        self.digest = hashlib.sha256()
        self._memory = memory

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override] # what the client passes
        self.digest.update(data)
        self._memory.pass_by(len(data))
        return len(data)


def pieces(size: int, memory: Memory, digest: hashlib._Hash) -> Iterator[bytes]:
    """Bytes of which no two MiB are the same, and none is sparse or compressible."""
    block = os.urandom(MIB)
    for number in range(size // MIB):
        piece = number.to_bytes(8, "big") + block[8:]
        digest.update(piece)
        memory.pass_by(len(piece))
        yield piece


@pytest.fixture
def roomy(server: ServerProcess, runtime: str) -> Iterator[Sandbox]:
    """A sandbox with room for ten gigabytes and more."""
    with (
        Atoll(api_url=server.url, api_key=server.api_key) as client,
        client.sandboxes.create(
            "host", runtime=runtime, timeout_ms=HOUR_MS, resources={"disk_mb": DISK_MB}
        ) as sandbox,
    ):
        yield sandbox


@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(GIB // 4, id="0.25 GiB", marks=pytest.mark.slow),
        pytest.param(GIB, id="1 GiB", marks=pytest.mark.soak),
        pytest.param(10 * GIB, id="10 GiB", marks=pytest.mark.soak),
    ],
)
def test_bulk_goes_both_ways_in_flat_memory(
    server: ServerProcess, roomy: Sandbox, size: int
) -> None:
    roomy.files.upload(pieces(16 * MIB, Memory(server.pid), hashlib.sha256()), "bulk")
    roomy.files.download("bulk", Sink(Memory(server.pid)))  # type: ignore[arg-type] # a BinaryIO as far as it is used
    sent, up, down = hashlib.sha256(), Memory(server.pid), Memory(server.pid)

    written = roomy.files.upload(pieces(size, up, sent), "bulk")
    sink = Sink(down)
    fetched = roomy.files.download("bulk", sink)  # type: ignore[arg-type] # as above

    assert written.size_bytes == fetched == size
    assert sink.digest.digest() == sent.digest()
    assert up.growth_mb < ALLOWED_GROWTH_MB, "the server's memory grew with what came"
    assert down.growth_mb < ALLOWED_GROWTH_MB, "the server's memory grew with what went"


def test_an_upload_that_ends_anywhere_leaves_nothing(api: Api, sandbox_id: str) -> None:
    """Attack 28, at many places: in its head, at its start, between its chunks, before its last byte."""
    random_places = random.Random(28)
    target = f"/v1/sandboxes/{sandbox_id}/files?path=/srv/nowhere/file"
    head = (
        f"PUT {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {api.server.api_key}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {MIB}\r\n\r\n"
    ).encode()
    request = head + os.urandom(MIB)
    places = [0, len(head), len(head) + 1, len(request) - 1]
    places += [random_places.randrange(len(request)) for _ in range(CUT_SHORT)]
    before = open_files(api.server.pid)

    for number, place in enumerate(places):
        with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
            connection.sendall(request[:place])
            if number % 2:  # some clients leave politely, some are cut off
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    api.call("GET", "/v1/health")  # connections are taken in their order: all of them have been
    wait_until(lambda: open_files(api.server.pid) <= before, what="the end of all uploads")
    wait_until(
        lambda: not left_in(api, sandbox_id, "/srv/nowhere"),
        what="the sweeping of temporary files",
    )


def test_a_batch_whose_client_leaves_leaves_only_whole_files(api: Api, sandbox_id: str) -> None:
    files = [{"path": f"/srv/some/{number}", "content": "x" * FILE_BYTES} for number in range(1000)]
    target = f"/v1/sandboxes/{sandbox_id}/files/batch/write"
    before = open_files(api.server.pid)

    body = json.dumps({"files": files}).encode()
    head = (
        f"POST {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {api.server.api_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        connection.sendall(head + body)
        wait_until(lambda: count_in(api, sandbox_id, "/srv/some") > 0, what="the first file")

    wait_until(lambda: open_files(api.server.pid) <= before, what="the end of the batch")
    assert count_in(api, sandbox_id, "/srv/some") > 0
    script = f"cd /srv/some 2>/dev/null || exit 0; find . -type f ! -size {FILE_BYTES}c; find . -name '.*' -type f"
    wait_until(
        lambda: api.execute(sandbox_id, script).json()["stdout"] == "",
        what="the sweeping of temporary files",
    )


def count_in(api: Api, sandbox_id: str, directory: str) -> int:
    target = f"/v1/sandboxes/{sandbox_id}/files/list?path={directory}"
    answer = api.call("GET", target)
    return len(answer.json()["data"]) if answer.status == 200 else 0


def left_in(api: Api, sandbox_id: str, directory: str) -> str:
    found: str = api.execute(sandbox_id, f"find {directory} -type f 2>/dev/null").json()["stdout"]
    return found
