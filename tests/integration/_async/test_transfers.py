# SPDX-License-Identifier: Apache-2.0
"""Files and directories of any size, to and from the client's own disk. Attacks 24, 26 and 27."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll import AsyncSandbox, FileError, FileNotFound
from tests.support.processes import resident_mb
from tests.support.server import ServerProcess

MIB = 1 << 20
ALLOWED_GROWTH_MB = 32


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_file(path: Path, size_mib: int) -> None:
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for number in range(size_mib):
            file.write(number.to_bytes(4, "big") + block[4:])


async def test_a_file_goes_there_and_comes_back(sandbox: AsyncSandbox, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    _make_file(source, 8)

    written = await sandbox.files.upload(source, "/tmp/there", mode=0o600)
    inside = await sandbox.exec("sha256sum < /tmp/there")
    size = await sandbox.files.download("/tmp/there", str(target))

    assert written.size_bytes == size == 8 * MIB
    assert inside.stdout.split()[0] == _digest(source) == _digest(target)
    assert (await sandbox.files.stat("/tmp/there")).mode == "0600"


async def test_an_upload_that_is_refused_half_way_says_why(
    sandbox: AsyncSandbox, tmp_path: Path
) -> None:
    _make_file(tmp_path / "source", 64)

    with pytest.raises(FileError) as raised:
        await sandbox.files.upload(tmp_path / "source", "/tmp")

    assert raised.value.reason == "is_a_directory"
    assert (await sandbox.exec("true")).ok


async def test_open_files_and_iterables_are_uploaded_too(sandbox: AsyncSandbox) -> None:
    def pieces() -> Iterator[bytes]:
        for number in range(1000):
            yield b"%d\n" % number

    await sandbox.files.upload(io.BytesIO(b"from memory"), "/tmp/from-memory")
    await sandbox.files.upload(pieces(), "/tmp/from-pieces")
    back = io.BytesIO()
    size = await sandbox.files.download("/tmp/from-memory", back)

    assert (size, back.getvalue()) == (11, b"from memory")
    assert (await sandbox.exec("tail -n 1 /tmp/from-pieces; wc -l < /tmp/from-pieces")).stdout == (
        "999\n1000\n"
    )


async def test_a_failed_download_leaves_no_file_here(sandbox: AsyncSandbox, tmp_path: Path) -> None:
    with pytest.raises(FileNotFound):
        await sandbox.files.download("/no/file", tmp_path / "target")
    with pytest.raises(FileError):
        await sandbox.files.download("/tmp", tmp_path / "target")

    assert os.listdir(tmp_path) == []


async def test_a_failed_upload_leaves_the_old_file_there(sandbox: AsyncSandbox) -> None:
    await sandbox.files.write("/srv/kept/file", "old")

    def broken() -> Iterator[bytes]:
        yield b"x" * MIB
        raise LookupError("no more")

    with pytest.raises(LookupError):
        await sandbox.files.upload(broken(), "/srv/kept/file")

    assert await sandbox.files.read("/srv/kept/file") == b"old"
    listed = await sandbox.exec(
        "for n in $(seq 50); do [ $(ls -A /srv/kept | wc -l) = 1 ] && break; sleep 0.1; done; ls -A /srv/kept"
    )
    assert listed.stdout == "file\n"


async def _transfer_with_flat_memory(
    server: ServerProcess, sandbox: AsyncSandbox, directory: Path, size_mib: int
) -> None:
    source, target = directory / "source", directory / "target"
    _make_file(source, 16)
    await sandbox.files.upload(source, "/workspace/big")
    await sandbox.files.download("/workspace/big", target)  # warm
    _make_file(source, size_mib)
    before = resident_mb(os.getpid()), resident_mb(server.pid)
    most = list(before)

    def sample() -> None:
        most[:] = map(max, most, (resident_mb(os.getpid()), resident_mb(server.pid)))

    def pieces() -> Iterator[bytes]:
        with source.open("rb") as file:
            while piece := file.read(MIB):
                if file.tell() % (8 * MIB) == 0:
                    sample()
                yield piece

    class Sampled(io.RawIOBase):
        def __init__(self) -> None:
            self.digest = hashlib.sha256()
            self.seen = 0

        def writable(self) -> bool:
            return True

        def write(self, data: bytes, /) -> int:  # type: ignore[override] # what the client passes
            self.digest.update(data)
            if self.seen // (8 * MIB) != (self.seen + len(data)) // (8 * MIB):
                sample()
            self.seen += len(data)
            return len(data)

    sink = Sampled()
    await sandbox.files.upload(pieces(), "/workspace/big")
    await sandbox.files.download("/workspace/big", sink)  # type: ignore[arg-type] # a BinaryIO as far as it is used
    await sandbox.files.remove("/workspace/big")

    assert sink.digest.hexdigest() == _digest(source)
    assert most[0] - before[0] < ALLOWED_GROWTH_MB, "the client's memory grew"
    assert most[1] - before[1] < ALLOWED_GROWTH_MB, "the server's memory grew"


async def test_a_quarter_gigabyte_each_way_keeps_memory_flat(
    server: ServerProcess, sandbox: AsyncSandbox, tmp_path: Path
) -> None:
    """Attack 27, in short."""
    await _transfer_with_flat_memory(server, sandbox, tmp_path, 256)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_four_gigabytes_each_way_keep_memory_flat(
    server: ServerProcess, sandbox: AsyncSandbox, tmp_path: Path
) -> None:
    """Attack 27."""
    await _transfer_with_flat_memory(server, sandbox, tmp_path, 4096)


async def test_a_directory_goes_there_and_comes_back(sandbox: AsyncSandbox, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    long_name = "ü" * 120
    (source / "deep" / long_name).mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "deep" / long_name / "file").write_bytes(bytes(range(256)))
    (source / "script.sh").write_text("#!/bin/sh\necho ran\n")
    (source / "script.sh").chmod(0o755)
    (source / "link").symlink_to("script.sh")
    (source / "large").write_bytes(b"x" * (3 * MIB))

    unpacked = await sandbox.files.upload_dir(source, "/workspace/there")
    ran = await sandbox.exec("cd there; ./link; find . | wc -l; stat -c '%U' script.sh")
    await sandbox.files.download_dir("there", target)

    assert unpacked.entries == 7
    assert ran.stdout == "ran\n8\nroot\n"
    assert (target / "deep" / long_name / "file").read_bytes() == bytes(range(256))
    assert (target / "empty").is_dir()
    assert (target / "large").stat().st_size == 3 * MIB
    assert os.readlink(target / "link") == "script.sh"
    assert (target / "script.sh").stat().st_mode & 0o777 == 0o755


async def test_many_small_files_go_both_ways(sandbox: AsyncSandbox, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for number in range(1000):
        (source / f"{number}").write_text(f"content {number}")

    await sandbox.files.upload_dir(source, "/tmp/many")
    await sandbox.files.download_dir("/tmp/many", target)

    assert {path.name: path.read_text() for path in target.iterdir()} == {
        str(number): f"content {number}" for number in range(1000)
    }


async def test_unpacking_adds_to_what_is_there(sandbox: AsyncSandbox, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "both").write_text("new")
    await sandbox.exec("mkdir -p /tmp/merged; cd /tmp/merged; echo old > old; echo old > both")

    await sandbox.files.upload_dir(tmp_path, "/tmp/merged")

    seen = await sandbox.exec("cd /tmp/merged; tail -n +1 *")
    assert seen.stdout.split() == "==> both <== new ==> new <== new ==> old <== old".split()


async def test_a_directory_that_is_not_there_is_not_found(
    sandbox: AsyncSandbox, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFound):
        await sandbox.files.download_dir("/no/directory", tmp_path / "target")
    with pytest.raises(FileError) as raised:
        await sandbox.files.download_dir("/etc/passwd", tmp_path / "target")

    assert raised.value.reason == "not_a_directory"
