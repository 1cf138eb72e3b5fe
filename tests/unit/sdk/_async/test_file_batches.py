# SPDX-License-Identifier: Apache-2.0
"""Many files in few requests."""

from __future__ import annotations

import base64
import pickle
from pathlib import PurePosixPath
from typing import Any

import pytest

import atoll
from atoll import AsyncSandbox, FileToWrite, FileWritten
from tests.support.scripted_server import Answer, ScriptedServer, answer_error, answer_json

BATCH = "/v1/sandboxes/sb_0123456789/files/batch"
MISSING = {"code": "FILE_NOT_FOUND", "message": "none", "retryable": False, "reason": None}
FULL = {"code": "FILE_ERROR", "message": "full", "retryable": False, "reason": "no_space"}
LEFT_OUT = {"code": "TOO_LARGE", "message": "no room", "retryable": False, "reason": None}
LARGE = 6_000_000


def answer_all(name: str, *results: dict[str, Any]) -> Answer:
    data = [
        {"path": "p", name: None if "code" in one else one, "error": one if "code" in one else None}
        for one in results
    ]
    return answer_json({"data": data, "failed": sum("code" in one for one in results)})


def wrote(path: str) -> dict[str, Any]:
    return {"path": path, "sizeBytes": 1, "created": True}


def holds(text: str, **more: str) -> dict[str, Any]:
    return {"content": text, "encoding": "utf-8", "path": "/p", "mode": "0644", **more}


async def test_files_are_written_in_one_request(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_all("written", *[wrote(name) for name in "abcd"])]

    results = await sandbox.files.write_many(
        [
            ("a", "é"),
            (b"\xff", bytearray(b"\x00")),
            FileToWrite(PurePosixPath("c"), b"", mode=0o755),
            FileToWrite("d", memoryview(b"d")),
        ]
    )

    assert results == [FileWritten(name, size_bytes=1, created=True) for name in "abcd"]
    assert scripted.asked[0].path == f"{BATCH}/write"
    sent = scripted.asked[0].json["files"]
    assert [base64.b64decode(one["content"]) for one in sent] == ["é".encode(), b"\0", b"", b"d"]
    assert [one["mode"] for one in sent] == [None, None, "0755", None]
    assert [(one["path"], one["pathEncoding"]) for one in sent][:2] == [
        ("a", "utf-8"),
        ("/w==", "base64"),
    ]


async def test_a_mapping_is_written_too(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    scripted.script += [answer_all("written", wrote("a"), wrote("b"))]

    await sandbox.files.write_many({"a": "1", "b": b"2"})

    assert [one["path"] for one in scripted.asked[0].json["files"]] == ["a", "b"]


async def test_no_files_are_no_request(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    assert await sandbox.files.write_many({}) == []
    assert await sandbox.files.read_many([]) == {}

    assert scripted.asked == []


async def test_more_files_than_go_into_one_request_are_several(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    names = [f"{number}" for number in range(1001)]
    scripted.script += [
        answer_all("written", *map(wrote, names[:1000])),
        answer_all("written", wrote("last")),
        answer_all("file", *map(holds, names[:1000])),
        answer_all("file", holds("1000")),
    ]

    written = await sandbox.files.write_many((name, name) for name in names)
    read = await sandbox.files.read_many(iter(names))

    assert len(written) == 1001
    assert read == {name: name.encode() for name in names}
    assert [len(one.json["files"]) for one in scripted.asked] == [1000, 1, 1000, 1]


async def test_large_files_do_not_make_a_large_request(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    """Those that go alone are streamed, with the order of the results kept."""
    scripted.script += [
        answer_all("written", wrote("a"), wrote("b")),
        answer_json(wrote("c")),
        answer_all("written", wrote("d")),
    ]
    data = {"a": b"x" * (LARGE // 2), "b": b"x", "c": b"x" * LARGE, "d": b"x" * (LARGE // 2)}

    results = await sandbox.files.write_many(data)

    assert [one.path for one in results] == ["a", "b", "c", "d"]
    assert [one.method for one in scripted.asked] == ["POST", "PUT", "POST"]
    assert scripted.asked[1].body == data["c"]
    assert all(len(one.body) < 8 * 1024 * 1024 for one in scripted.asked)


async def test_files_are_read_by_their_paths_as_given(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    raw = holds("/wA=", encoding="base64")
    scripted.script += [answer_all("file", holds("é"), raw)]

    paths: list[str | bytes] = ["a", b"\xff", "a"]
    read = await sandbox.files.read_many(paths)

    assert read == {"a": "é".encode(), b"\xff": b"\xff\0"}
    assert scripted.asked[0].path == f"{BATCH}/read"
    assert [one["path"] for one in scripted.asked[0].json["files"]] == ["a", "/w=="]


async def test_what_was_left_out_of_the_answer_is_read_alone(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [
        answer_all("file", LEFT_OUT, holds("b"), LEFT_OUT),
        Answer(body=b"large"),
        answer_error("FILE_NOT_FOUND", 404),
    ]

    read = await sandbox.files.read_many(["a", "b", "c"], check=False)

    assert (read["a"], read["b"]) == (b"large", b"b")
    assert isinstance(read["c"], atoll.FileNotFound)


async def test_a_failure_is_raised_with_all_results(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [
        answer_all("written", wrote("a"), FULL),
        answer_all("file", holds("a"), MISSING),
    ]

    with pytest.raises(atoll.FilesFailed, match=r"1 of 2 files failed.*'b'.*full") as writing:
        await sandbox.files.write_many({"a": "", "b": ""})
    with pytest.raises(atoll.FilesFailed) as reading:
        await sandbox.files.read_many(["a", "b"])

    assert writing.value.results[0] == FileWritten("a", size_bytes=1, created=True)
    error = writing.value.errors["b"]
    assert isinstance(error, atoll.FileError)
    assert error.reason == "no_space"
    assert reading.value.results["a"] == b"a"
    assert isinstance(reading.value.errors["b"], atoll.FileNotFound)
    assert pickle.loads(pickle.dumps(reading.value)).errors.keys() == {"b"}


async def test_a_failure_is_a_result_where_nothing_is_to_be_raised(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [
        answer_all("written", wrote("a"), FULL),
        answer_error("FILE_ERROR", 409, reason="is_a_directory"),
    ]

    first, second, alone = await sandbox.files.write_many(
        {"a": "", "b": "", "c": b"x" * LARGE}, check=False
    )

    assert isinstance(first, FileWritten)
    assert isinstance(second, atoll.FileError)
    assert isinstance(alone, atoll.FileError)
    assert alone.reason == "is_a_directory"


async def test_what_is_wrong_with_the_sandbox_is_raised_as_ever(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_error("SANDBOX_FAILED", 409)]

    with pytest.raises(atoll.SandboxFailed):
        await sandbox.files.write_many({"a": ""}, check=False)


@pytest.mark.parametrize(
    "data",
    [
        {"data": [], "failed": 0},
        {"data": [{"path": "p", "written": None, "error": None}], "failed": 0},
        {"data": [{"path": "p", "file": None, "error": None}], "failed": 0},
        {"data": [{"path": "p", "file": holds("?", encoding="base64")}], "failed": 0},
    ],
)
async def test_an_answer_that_is_none_is_not_believed(
    sandbox: AsyncSandbox, scripted: ScriptedServer, data: Any
) -> None:
    scripted.script += [answer_json(data)] * 2

    with pytest.raises(atoll.ProtocolError):
        await sandbox.files.read_many(["a"])
    if "file" not in str(data):
        with pytest.raises(atoll.ProtocolError):
            await sandbox.files.write_many({"a": ""})


@pytest.mark.parametrize("files", [["a"], [("a", "b", 0o644)], [5], [("a", 5)], [(5, "b")]])
async def test_files_that_are_none_are_refused(
    sandbox: AsyncSandbox, scripted: ScriptedServer, files: Any
) -> None:
    with pytest.raises((TypeError, atoll.InvalidRequest)):
        await sandbox.files.write_many(files)

    assert scripted.asked == []


async def test_one_path_is_not_many(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    with pytest.raises(TypeError, match="paths"):
        await sandbox.files.read_many("abc")

    assert scripted.asked == []
