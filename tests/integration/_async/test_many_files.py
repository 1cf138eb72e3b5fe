# SPDX-License-Identifier: Apache-2.0
"""Many small files in one call, and parts of large ones."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from atoll import AsyncSandbox, FileError, FileNotFound, FilesFailed, FileToWrite, InvalidRequest

MIB = 1 << 20


async def test_a_thousand_files_go_there_and_come_back(sandbox: AsyncSandbox) -> None:
    files = {f"many/{number % 7}/deep/{number}": os.urandom(1024) for number in range(1000)}

    written = await sandbox.files.write_many(files)
    counted = await sandbox.exec("find many -type f | wc -l; find many -name '.*' | wc -l")
    read = await sandbox.files.read_many(files)

    assert all(one.created and one.size_bytes == 1024 for one in written)
    assert [one.path for one in written] == [f"/workspace/{path}" for path in files]
    assert counted.stdout.split() == ["1000", "0"]
    assert read == files


async def test_names_modes_and_contents_may_be_anything(sandbox: AsyncSandbox) -> None:
    paths: list[str | bytes] = [
        "/tmp/any/ü",
        b"/tmp/any/\xff",
        "/tmp/any/a\n'\"`$",
        "/tmp/any/empty",
    ]
    data: list[str | bytes] = ["hé\0", bytes(range(256)), b"\x01" * 5000, ""]

    await sandbox.files.write_many(
        [FileToWrite(path, one, mode=0o751) for path, one in zip(paths, data, strict=True)]
    )
    read = await sandbox.files.read_many(paths)

    assert list(read.values()) == [one.encode() if isinstance(one, str) else one for one in data]
    modes = await sandbox.exec("stat -c %a /tmp/any/*")
    assert modes.stdout.split() == ["751"] * 4


async def test_a_directory_among_the_files_fails_alone(sandbox: AsyncSandbox) -> None:
    await sandbox.exec("mkdir -p /tmp/mixed/dir; echo old > /tmp/mixed/old; mkfifo /tmp/mixed/fifo")
    names = ["new", "dir", "old", "old/below", "fifo"]
    paths = [f"/tmp/mixed/{name}" for name in names]

    with pytest.raises(FilesFailed) as writing:
        await sandbox.files.write_many(dict.fromkeys(paths, "x"))
    read = await sandbox.files.read_many([*paths, "/tmp/mixed/none"], check=False)

    reasons = {
        path: error.reason if isinstance(error, FileError) else error.code
        for path, error in writing.value.errors.items()
    }
    assert reasons == {
        "/tmp/mixed/dir": "is_a_directory",
        "/tmp/mixed/old/below": "not_a_directory",
        "/tmp/mixed/fifo": "not_a_file",
    }
    assert (read["/tmp/mixed/new"], read["/tmp/mixed/old"]) == (b"x", b"x")
    assert isinstance(read["/tmp/mixed/dir"], FileError)
    assert isinstance(read["/tmp/mixed/none"], FileNotFound)
    left = await sandbox.exec("ls -A /tmp/mixed")
    assert left.stdout.split() == ["dir", "fifo", "new", "old"]


async def test_files_that_are_more_than_one_answer_all_come(sandbox: AsyncSandbox) -> None:
    files = {f"/tmp/large/{number}": os.urandom(3 * MIB) for number in range(4)}
    files["/tmp/large/huge"] = os.urandom(9 * MIB)

    await sandbox.files.write_many(files)

    assert await sandbox.files.read_many(files) == files


async def test_files_without_a_size_are_read_too(sandbox: AsyncSandbox) -> None:
    read = await sandbox.files.read_many(
        ["/proc/self/status", "/proc/cpuinfo", "/dev/null"], check=False
    )

    assert all(read[path] for path in ("/proc/self/status", "/proc/cpuinfo"))
    assert isinstance(read["/dev/null"], FileError)
    assert await sandbox.files.read("/proc/cpuinfo", length=9) == b"processor"


async def test_two_files_at_one_path_are_refused(sandbox: AsyncSandbox) -> None:
    with pytest.raises(InvalidRequest, match="same path"):
        await sandbox.files.write_many([("twice", "a"), ("./twice", "b")])

    assert not await sandbox.files.exists("twice")


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 0),
        (0, 1),
        (MIB - 1, 2),
        (3 * MIB - 5, None),
        (3 * MIB - 5, 100),
        (3 * MIB, 1),
        (2**62, None),
    ],
)
async def test_a_part_is_what_is_there(
    sandbox: AsyncSandbox, offset: int, length: int | None
) -> None:
    data = os.urandom(3 * MIB)
    await sandbox.files.write("parts", data)
    end = None if length is None else offset + length
    file = io.BytesIO()

    assert await sandbox.files.read("parts", offset=offset, length=length) == data[offset:end]
    size = await sandbox.files.download("parts", file, offset=offset, length=length)

    assert (size, file.getvalue()) == (len(data[offset:end]), data[offset:end])


async def test_a_part_far_into_a_sparse_file_comes_at_once(
    sandbox: AsyncSandbox, tmp_path: Path
) -> None:
    await sandbox.exec("truncate -s 4G sparse; printf end >> sparse", check=True)

    size = await sandbox.files.download("sparse", tmp_path / "end", offset=(4 << 30) - 2)

    assert (size, (tmp_path / "end").read_bytes()) == (5, b"\0\0end")
