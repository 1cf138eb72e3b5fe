# SPDX-License-Identifier: Apache-2.0
"""Parts of files, and downloads that break and go on."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

import atoll
from atoll import AsyncSandbox
from tests.support.scripted_server import Answer, ScriptedServer, answer_error

DATA = os.urandom(3_000_000)
TAG = {"ETag": '"1-2"'}


def whole(*, upto: int | None = None, headers: dict[str, str] = TAG) -> Answer:
    """All of the file, or so much of it before the connection breaks."""
    return Answer(headers=headers, pieces=(DATA[:upto],), cut=upto is not None)


def part(first: int, upto: int | None = None, *, cut: bool = False) -> Answer:
    body = DATA[first:upto]
    span = f"bytes {first}-{first + len(body) - 1}/{len(DATA)}"
    return Answer(206, body, {"Content-Range": span, **TAG}, cut=cut)


def asked(scripted: ScriptedServer) -> list[tuple[str | None, str | None]]:
    return [(one.headers.get("range"), one.headers.get("if-range")) for one in scripted.asked]


@pytest.mark.parametrize(
    ("offset", "length", "sent"),
    [(10, None, "bytes=10-"), (0, 5, "bytes=0-4"), (10, 1, "bytes=10-10"), (0, None, None)],
)
async def test_read_asks_for_a_part(
    sandbox: AsyncSandbox,
    scripted: ScriptedServer,
    offset: int,
    length: int | None,
    sent: str | None,
) -> None:
    end = None if length is None else offset + length
    scripted.script += [whole() if sent is None else part(offset, end)]

    assert await sandbox.files.read("a", offset=offset, length=length) == DATA[offset:end]

    assert asked(scripted) == [(sent, None)]


async def test_what_has_no_ranges_is_cut_here(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [whole()] * 3
    file = io.BytesIO()

    assert await sandbox.files.read("a", offset=5, length=3) == DATA[5:8]
    assert await sandbox.files.download("a", file, offset=2_000_000, length=500_000) == 500_000
    assert file.getvalue() == DATA[2_000_000:2_500_000]
    assert await sandbox.files.read("a", offset=len(DATA)) == b""


async def test_past_the_end_there_is_nothing(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.script += [answer_error("RANGE_NOT_SATISFIABLE", 416)] * 2

    assert await sandbox.files.read("a", offset=2**70) == b""
    assert await sandbox.files.download("a", tmp_path / "f", offset=5, length=1) == 0
    assert (tmp_path / "f").read_bytes() == b""


async def test_no_bytes_are_read_of_a_file_that_is_there(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [part(7, 8), answer_error("FILE_NOT_FOUND", 404)]

    assert await sandbox.files.read("a", offset=7, length=0) == b""
    with pytest.raises(atoll.FileNotFound):
        await sandbox.files.read("a", length=0)


@pytest.mark.parametrize("offset", [-1, True, 1.5, "1", None])
async def test_an_offset_that_is_none_is_refused(
    sandbox: AsyncSandbox, scripted: ScriptedServer, offset: int
) -> None:
    with pytest.raises(atoll.InvalidRequest, match="offset"):
        await sandbox.files.read("a", offset=offset)

    assert scripted.asked == []


@pytest.mark.parametrize("length", [-1, True, 1.5, "1"])
async def test_a_length_that_is_none_is_refused(
    sandbox: AsyncSandbox, scripted: ScriptedServer, length: int, tmp_path: Path
) -> None:
    with pytest.raises(atoll.InvalidRequest, match="length"):
        await sandbox.files.download("a", tmp_path / "f", length=length)

    assert scripted.asked == []
    assert os.listdir(tmp_path) == []


async def test_another_part_than_was_asked_for_is_refused(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [part(11), Answer(206, b"x")]

    with pytest.raises(atoll.ProtocolError):
        await sandbox.files.read("a", offset=10)
    with pytest.raises(atoll.ProtocolError):
        await sandbox.files.read("a", offset=10)


async def test_a_download_goes_on_where_it_broke(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.script += [
        whole(upto=1_500_001),
        part(1_500_001, 1_500_002, cut=True),
        part(1_500_002),
    ]

    size = await sandbox.files.download("a", tmp_path / "f")

    assert size == len(DATA)
    assert (tmp_path / "f").read_bytes() == DATA
    assert asked(scripted) == [
        (None, None),
        ("bytes=1500001-", '"1-2"'),
        ("bytes=1500002-", '"1-2"'),
    ]


async def test_a_part_goes_on_too_and_into_an_open_file(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [part(100, 200, cut=True), part(200, 1000)]
    file = io.BytesIO()

    assert await sandbox.files.download("a", file, offset=100, length=900) == 900

    assert file.getvalue() == DATA[100:1000]
    assert asked(scripted)[1] == ("bytes=200-999", '"1-2"')


async def test_a_download_of_a_file_that_changed_begins_anew(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    new = Answer(body=b"new", headers={"ETag": '"3-4"'})
    scripted.script += [whole(upto=1000), new]

    assert await sandbox.files.download("a", tmp_path / "f") == 3

    assert (tmp_path / "f").read_bytes() == b"new"


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"1-2"'}, {"ETag": "1-2"}])
async def test_without_a_strong_tag_a_download_begins_anew(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path, headers: dict[str, str]
) -> None:
    scripted.script += [whole(upto=1000, headers=headers), whole(headers=headers)]

    assert await sandbox.files.download("a", tmp_path / "f") == len(DATA)

    assert (tmp_path / "f").read_bytes() == DATA
    assert asked(scripted) == [(None, None), (None, None)]


async def test_an_open_file_gets_no_start_twice(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [whole(upto=1000), whole(headers={"ETag": '"3-4"'})]
    file = io.BytesIO()

    with pytest.raises(atoll.ConnectionLost, match="has changed"):
        await sandbox.files.download("a", file)

    assert file.getvalue() == DATA[:1000]
    assert len(scripted.asked) == 2


async def test_a_download_that_broke_at_its_very_end_is_whole(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.script += [whole(upto=len(DATA)), answer_error("RANGE_NOT_SATISFIABLE", 416)]

    assert await sandbox.files.download("a", tmp_path / "f") == len(DATA)

    assert (tmp_path / "f").read_bytes() == DATA


@pytest.mark.parametrize("headers", [TAG, {}])
async def test_a_download_that_never_gets_further_gives_up(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path, headers: dict[str, str]
) -> None:
    again = part(1000, 1000, cut=True) if headers else whole(upto=1000, headers=headers)
    scripted.script += [whole(upto=1000, headers=headers), *[again] * 10]

    with pytest.raises(atoll.ConnectionLost):
        await sandbox.files.download("a", tmp_path / "f")

    assert 1 < len(scripted.asked) < 10
    assert os.listdir(tmp_path) == []
