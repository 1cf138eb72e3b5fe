# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

import pytest

import atoll
from atoll import AsyncSandbox
from tests.support.scripted_server import Answer, ScriptedServer, answer_error, answer_json
from tests.unit.sdk import samples

BASE = "/v1/sandboxes/sb_0123456789/files"
ENTRY = answer_json(samples.entry())
WRITTEN = answer_json({"path": "/workspace/a.txt", "sizeBytes": 3, "created": True})


async def test_read_gives_the_bytes(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    scripted.script += [Answer(body=b"\x00\xff"), Answer(body="é\r\n".encode())]

    assert await sandbox.files.read("a.txt") == b"\x00\xff"
    assert await sandbox.files.read_text("a.txt") == "é\r\n"

    assert scripted.asked[0].target == f"{BASE}?path=a.txt"
    assert scripted.asked[0].headers["accept"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("path", "quoted"),
    [
        ("a b", "a%20b"),
        ("/é?&=#%", "/%C3%A9%3F%26%3D%23%25"),
        (b"\xff", "%FF"),
        ("\udcff", "%FF"),
        (PurePosixPath("/a/b"), "/a/b"),
        ("../..", "../.."),
        ("", ""),
        ("\0", "%00"),
    ],
)
async def test_paths_travel_as_their_bytes(
    sandbox: AsyncSandbox, scripted: ScriptedServer, path: str | bytes, quoted: str
) -> None:
    scripted.script += [Answer(body=b"")]

    await sandbox.files.read(path)

    assert scripted.asked[0].target == f"{BASE}?path={quoted}"


async def test_a_path_that_is_none_is_refused(sandbox: AsyncSandbox) -> None:
    with pytest.raises(atoll.InvalidRequest):
        await sandbox.files.read(5)  # type: ignore[arg-type] # the point


@pytest.mark.parametrize("data", ["hé", "hé".encode(), bytearray("hé".encode())])
async def test_write_sends_text_and_bytes_as_they_are(
    sandbox: AsyncSandbox, scripted: ScriptedServer, data: str | bytes
) -> None:
    scripted.script += [WRITTEN]

    written = await sandbox.files.write("a.txt", data)

    assert written == atoll.FileWritten(path="/workspace/a.txt", size_bytes=3, created=True)
    assert (scripted.asked[0].method, scripted.asked[0].target) == ("PUT", f"{BASE}?path=a.txt")
    assert scripted.asked[0].headers["content-type"] == "application/octet-stream"
    assert scripted.asked[0].body == "hé".encode()


@pytest.mark.parametrize(("mode", "sent"), [(0o755, "0755"), ("755", "755"), (0o4755, "4755")])
async def test_modes_travel_as_octal_digits(
    sandbox: AsyncSandbox, scripted: ScriptedServer, mode: int | str, sent: str
) -> None:
    scripted.script += [WRITTEN]

    await sandbox.files.write("a", b"", mode=mode)

    assert scripted.asked[0].query["mode"] == sent


@pytest.mark.parametrize("mode", [-1, 0o10000, True])
async def test_modes_that_are_none_are_refused(
    sandbox: AsyncSandbox, scripted: ScriptedServer, mode: int
) -> None:
    with pytest.raises(atoll.InvalidRequest):
        await sandbox.files.chmod("a", mode)

    assert scripted.asked == []


async def test_append_says_so(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    scripted.script += [WRITTEN]

    await sandbox.files.append("a", "more")

    assert scripted.asked[0].query == {"path": "a", "append": "true"}


async def test_list_gives_entries(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    listing = {**samples.page(total=1), "data": [samples.entry()], "truncated": False}
    scripted.script += [answer_json(listing)]

    (entry,) = await sandbox.files.list("d", depth=3)

    assert (entry.name, entry.is_directory, entry.size_bytes) == ("a.txt", False, 3)
    assert entry.type is atoll.FileType.FILE
    assert scripted.asked[0].path == f"{BASE}/list"
    assert scripted.asked[0].query == {"path": "d", "depth": "3", "limit": "10000"}


async def test_a_list_that_is_not_whole_is_an_error_unless_limited(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    listing = {**samples.page(total=1), "data": [samples.entry()], "truncated": True}
    scripted.script += [answer_json(listing)] * 2

    assert len(await sandbox.files.list("d", limit=1)) == 1
    with pytest.raises(atoll.TooLarge):
        await sandbox.files.list("d")


async def test_the_other_verbs_ask_what_they_mean(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    files = sandbox.files
    scripted.script += [ENTRY] * 7 + [answer_json({"exists": True}), Answer(204), Answer(204)]

    await files.stat("a", follow=False)
    await files.mkdir("d", recursive=True, mode=0o700)
    await files.mkdir("d")
    await files.move("a", b"b")
    await files.copy("a", "b")
    await files.chmod("a", "0600", recursive=True)
    await files.chown("a", 1000, "staff")
    assert await files.exists("a")
    await files.remove("a")
    await files.delete("a", recursive=True)

    asked = [(one.method, one.path.removeprefix(BASE), one.query) for one in scripted.asked]
    assert asked == [
        ("GET", "/stat", {"path": "a", "follow": "false"}),
        ("POST", "/mkdir", {}),
        ("POST", "/mkdir", {}),
        ("POST", "/move", {}),
        ("POST", "/copy", {}),
        ("POST", "/chmod", {}),
        ("POST", "/chown", {}),
        ("GET", "/exists", {"path": "a"}),
        ("DELETE", "", {"path": "a"}),
        ("DELETE", "", {"path": "a", "recursive": "true"}),
    ]
    assert [one.json for one in scripted.asked if one.method == "POST"] == [
        {"path": "d", "parents": True, "mode": "0700"},
        {"path": "d"},
        {"source": "a", "destination": "b"},
        {"source": "a", "destination": "b"},
        {"path": "a", "mode": "0600", "recursive": True},
        {"path": "a", "user": "1000", "group": "staff"},
    ]


async def test_names_that_json_cannot_hold_travel_as_base64(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_json(samples.entry())] * 5

    await sandbox.files.move(b"\xff", "a")
    await sandbox.files.copy("a", os.fsdecode(b"\xff"))
    await sandbox.files.mkdir(b"\xff")
    await sandbox.files.chmod(b"\xff", 0o600)
    await sandbox.files.chown(b"\xff", "user")

    encoded = {"pathEncoding": "base64"}
    assert [asked.json for asked in scripted.asked] == [
        {"source": "/w==", "destination": "YQ==", **encoded},
        {"source": "YQ==", "destination": "/w==", **encoded},
        {"path": "/w==", **encoded},
        {"path": "/w==", "mode": "0600", **encoded},
        {"path": "/w==", "user": "user", **encoded},
    ]


@pytest.mark.parametrize("path", ["\ud800", "a\udfff"])
async def test_surrogates_that_stand_for_no_byte_are_refused(
    sandbox: AsyncSandbox, scripted: ScriptedServer, path: str
) -> None:
    with pytest.raises(atoll.InvalidRequest, match="surrogates"):
        await sandbox.files.read(path)
    with pytest.raises(atoll.InvalidRequest, match="surrogates"):
        await sandbox.files.mkdir(path)

    assert scripted.asked == []


async def test_file_errors_carry_their_reason(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_error("FILE_ERROR", 409, reason="not_empty")]

    with pytest.raises(atoll.FileError) as caught:
        await sandbox.files.remove("d")

    assert caught.value.reason == "not_empty"


async def test_upload_sends_a_local_file_with_its_length(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "f").write_bytes(content)
    scripted.script += [WRITTEN]

    await sandbox.files.upload(tmp_path / "f", "a.txt", mode="0755")

    assert scripted.asked[0].body == content
    assert scripted.asked[0].headers["content-length"] == "3000001"
    assert scripted.asked[0].query == {"path": "a.txt", "mode": "0755"}


async def test_upload_sends_a_local_file_again_from_its_start(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"content")
    busy = answer_error("INTERNAL", 500, retryable=True, headers={"Retry-After": "0"})
    scripted.script += [busy, WRITTEN]

    await sandbox.files.upload(tmp_path / "f", "a.txt")

    assert [asked.body for asked in scripted.asked] == [b"content", b"content"]


async def test_upload_sends_open_files_and_iterables(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    async def numbers() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number

    scripted.script += [WRITTEN] * 3

    await sandbox.files.upload(io.BytesIO(b"file"), "a")
    await sandbox.files.upload([b"it", b"era", b"ble"], "a")
    await sandbox.files.upload(numbers(), "a")

    assert [asked.body for asked in scripted.asked] == [b"file", b"iterable", b"012"]


async def test_upload_refuses_text_and_bytes_at_hand(sandbox: AsyncSandbox) -> None:
    with pytest.raises(TypeError, match="use write"):
        await sandbox.files.upload(b"data", "a")  # type: ignore[arg-type] # the point
    with pytest.raises(TypeError, match="binary mode"):
        await sandbox.files.upload(io.StringIO("text"), "a")  # type: ignore[arg-type] # the point


async def test_upload_of_a_missing_file_sends_nothing(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        await sandbox.files.upload(tmp_path / "none", "a")

    assert scripted.asked == []


async def test_download_makes_a_local_file(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    content = os.urandom(3_000_001)
    scripted.script += [Answer(pieces=(content[:7], content[7:2_000_000], content[2_000_000:]))]

    size = await sandbox.files.download("a", tmp_path / "f")

    assert size == 3_000_001
    assert (tmp_path / "f").read_bytes() == content
    assert os.listdir(tmp_path) == ["f"]


async def test_download_writes_into_an_open_file(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [Answer(body=b"content")]
    file = io.BytesIO()

    assert await sandbox.files.download("a", file) == 7
    assert file.getvalue() == b"content"


async def test_a_download_that_breaks_leaves_the_old_file(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"old")
    scripted.script += [Answer(pieces=(b"half",), cut=True)] * 3

    with pytest.raises(atoll.ConnectionLost):
        await sandbox.files.download("a", tmp_path / "f")

    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


async def test_a_download_of_nothing_leaves_nothing(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.script += [answer_error("FILE_NOT_FOUND", 404)]

    with pytest.raises(atoll.FileNotFound):
        await sandbox.files.download("a", tmp_path / "f")

    assert os.listdir(tmp_path) == []


async def test_a_directory_goes_up_and_comes_back(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "f").write_bytes(b"x" * 2_000_000)
    (source / "link").symlink_to("sub/f")
    scripted.script += [answer_json({"entries": 3})]

    unpacked = await sandbox.files.upload_dir(source, "d")
    sent = scripted.asked[0].body
    scripted.script += [Answer(body=sent, headers={"Content-Type": "application/x-tar"})]
    copied = await sandbox.files.download_dir("d", tmp_path / "target")

    assert unpacked.entries == 3
    assert copied == atoll.DirectoryDownloaded(entries=3, size_bytes=2_000_000, skipped=())
    assert (tmp_path / "target" / "sub" / "f").read_bytes() == b"x" * 2_000_000
    assert os.readlink(tmp_path / "target" / "link") == "sub/f"
    assert [asked.path for asked in scripted.asked] == [f"{BASE}/archive"] * 2


async def test_a_directory_larger_than_its_sandbox_is_not_believed(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    member = tarfile.TarInfo("f")
    member.size = 10240 * 1024 * 1024 + 1
    scripted.script += [Answer(body=member.tobuf())]

    with pytest.raises(atoll.UnsafeArchive):
        await sandbox.files.download_dir("d", tmp_path / "target")


async def test_a_directory_that_is_none_is_not_sent(
    sandbox: AsyncSandbox, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.script += [answer_json({"entries": 0})]

    with pytest.raises(NotADirectoryError):
        await sandbox.files.upload_dir(tmp_path / "none", "d")
