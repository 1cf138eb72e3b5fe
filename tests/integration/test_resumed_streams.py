# SPDX-License-Identifier: Apache-2.0
"""Streams that are cut off again and again come out whole: attacks 39 and 40."""

from __future__ import annotations

import asyncio
import codecs
import random
from dataclasses import dataclass, field

import pytest

from atoll import AsyncAtoll, AsyncProcess, AsyncSandbox, Dropped, Exit, Stdout
from tests.integration.test_processes import EVENTS, FORMS, FRAMES, READERS, Processes, Read
from tests.support.api import Api
from tests.support.cutting_proxy import CuttingProxy
from tests.support.pieces import EXIT_CODE, Pieces, make_pieces, writer
from tests.support.server import ServerProcess

CUTS = 500
KILLS = 20


@dataclass
class Joined:
    """All that one reader was told of a process."""

    stdout: bytes = b""
    stderr: bytes = b""
    text: dict[str, str] = field(default_factory=lambda: {"stdout": "", "stderr": ""})
    order: list[tuple[str, int]] = field(default_factory=list)
    """How many bytes of which stream came in turn."""
    exit_code: int | None = None
    grew: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, process: AsyncProcess) -> Joined:
        position = 0
        async for event in process.stream():
            assert not isinstance(event, Dropped)
            if isinstance(event, Exit):
                assert event.position == position
                self.exit_code = event.exit_code
                continue
            name = "stdout" if isinstance(event, Stdout) else "stderr"
            position += len(event.data)
            assert event.position == position
            assert event.offset == len(getattr(self, name))
            setattr(self, name, getattr(self, name) + event.data)
            self.text[name] += event.text
            self._note(name, len(event.data))
        return self

    def _note(self, name: str, size: int) -> None:
        self.grew.set()
        if self.order and self.order[-1][0] == name:
            size += self.order.pop()[1]
        self.order.append((name, size))


def assert_whole(joined: Joined, pieces: Pieces, seed: int) -> None:
    said = f"seed {seed}"
    assert joined.stdout == pieces.stdout, said
    assert joined.stderr == pieces.stderr, said
    for name in ("stdout", "stderr"):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        assert joined.text[name] == decoder.decode(getattr(pieces, name)), said
    assert joined.exit_code == EXIT_CODE


async def start_writer(sandbox: AsyncSandbox, pieces: Pieces, pause: float) -> AsyncProcess:
    path = f"/tmp/pieces-{random.getrandbits(64):x}"
    await sandbox.files.write(path, pieces.encode())
    return await sandbox.processes.start(writer(path, pause))


async def test_stream_of_the_sdk_is_whole_however_often_its_connection_drops(
    server: ServerProcess, async_sandbox: AsyncSandbox
) -> None:
    """Attack 39. Readers beside readers, because each waits a moment before it comes back."""
    seed = random.getrandbits(32)
    written = [make_pieces(seed + number, count=400, longest=2048) for number in range(16)]
    # Half of them write while they are read, the others have long ended.
    started = [
        await start_writer(async_sandbox, pieces, pause=0.01 * (number % 2))
        for number, pieces in enumerate(written)
    ]
    async with (
        CuttingProxy(server.port, seed) as proxy,
        AsyncAtoll(proxy.url, server.api_key) as client,
    ):
        sandbox = await client.sandboxes.get(async_sandbox.id)
        cut_off = [await sandbox.processes.get(process.id) for process in started]
        proxy.cut(CUTS, within=16_000)
        joined = await asyncio.gather(*(Joined().read(process) for process in cut_off))

    assert proxy.cuts == CUTS, f"seed {seed}"
    for process, pieces, read in zip(started, written, joined, strict=True):
        assert_whole(read, pieces, seed)
        assert read.order == (await Joined().read(process)).order, f"seed {seed}"


@pytest.mark.isolated
async def test_stream_of_the_sdk_is_whole_over_twenty_killed_servers(
    own_server: ServerProcess, runtime: str
) -> None:
    """Attack 40."""
    seed = random.getrandbits(32)
    pieces = make_pieces(seed, count=4000, longest=512)
    async with AsyncAtoll(own_server.url, own_server.api_key) as client:
        sandbox = await client.sandboxes.create("host", runtime=runtime)
        # It would go on for minutes if its file stayed.
        process = await start_writer(sandbox, pieces, pause=0.04)
        joined = Joined()
        reading = asyncio.ensure_future(joined.read(process))

        for _ in range(KILLS):
            joined.grew.clear()
            await joined.grew.wait()
            await asyncio.to_thread(own_server.kill)
            await asyncio.to_thread(own_server.start)
        await process.refresh()
        assert process.status == "running"
        await sandbox.exec("rm /tmp/pieces-*", check=True)
        await reading

        assert_whole(joined, pieces, seed)
        assert joined.order == (await Joined().read(process)).order
        await sandbox.terminate()


# What HTTP says, to whoever has no SDK


def whole_part(form: str, body: bytes) -> bytes:
    """As much of a body that was cut off as says whole things."""
    if form != FRAMES:
        end = b"\n\n" if form == EVENTS else b"\n"
        return body[: body.rfind(end) + len(end)] if end in body else b""
    at = 0
    while at + 16 <= len(body) and at + 16 + int.from_bytes(body[at : at + 4]) <= len(body):
        at += 16 + int.from_bytes(body[at : at + 4])
    return body[:at]


def read_some(
    processes: Processes, process: str, form: str, position: int, size: int | None
) -> Read:
    """So much of a stream from a position on, or all of it."""
    # Only what reconnects by itself says where it was in a header.
    resumes = form == EVENTS and position > 0
    query = "" if resumes else f"?since={position}"
    headers = {"Last-Event-ID": str(position)} if resumes else {}
    with processes.stream(process, form, query, headers) as response:
        return READERS[form](whole_part(form, response.read(size)))


@pytest.mark.parametrize("form", FORMS)
def test_stream_over_http_is_whole_however_often_it_is_cut(
    api: Api, sandbox_id: str, form: str
) -> None:
    """Attack 39."""
    seed = random.getrandbits(32)
    chance = random.Random(seed)
    pieces = make_pieces(seed, count=3000, longest=1024)
    processes = Processes(api, sandbox_id)
    path = f"/tmp/pieces-{seed}"
    query = f"?path={path}"
    octets = {"Content-Type": "application/octet-stream"}
    api.call("PUT", f"/v1/sandboxes/{sandbox_id}/files{query}", pieces.encode(), headers=octets)
    started = processes.start(writer(path, 0.001))["id"]

    joined = Read()
    for _ in range(CUTS):
        part = read_some(processes, started, form, len(joined.output), chance.randrange(5000))
        assert part.dropped == 0
        assert not part.end, f"seed {seed}"
        for name, data in part.order:
            joined.add(name, data)
    last = read_some(processes, started, form, len(joined.output), None)
    for name, data in last.order:
        joined.add(name, data)

    assert joined.streams == {"stdout": pieces.stdout, "stderr": pieces.stderr}, f"seed {seed}"
    assert last.end["exitCode"] == EXIT_CODE
    assert joined.output == processes.read(started, form).output, f"seed {seed}"
