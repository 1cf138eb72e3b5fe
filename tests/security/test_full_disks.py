# SPDX-License-Identifier: Apache-2.0
"""What a sandbox that fills its disk, or is filled by an archive, must not do. Attacks 24 and 33."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest

from atoll import Atoll, FileError, Sandbox
from tests.support.api import Api
from tests.support.processes import resident_mb
from tests.support.server import ServerProcess

SMALLEST_DISK_MB = 5120
INODES = SMALLEST_DISK_MB * 64
GIB = 1 << 30
# Makes files until there is no room for one more, and says how many it made.
MAKE_FILES = """
import errno, os
made = 0
try:
    for directory in range(1 << 20):
        os.mkdir(f'/workspace/{directory}')
        for name in range(1000):
            os.mknod(f'/workspace/{directory}/{name}')
            made += 1
except OSError as error:
    print(errno.errorcode[error.errno], made)
"""


@pytest.fixture
def small(client: Atoll, runtime: str) -> Iterator[Sandbox]:
    with client.sandboxes.create("host", runtime=runtime, disk_mb=SMALLEST_DISK_MB) as small:
        yield small


@pytest.mark.slow
@pytest.mark.timeout(360)
@pytest.mark.parametrize(
    "runtime", ["container", pytest.param("gvisor", marks=pytest.mark.soak)], indirect=True
)
def test_a_disk_without_an_inode_left_says_so_and_hurts_nobody_else(
    small: Sandbox, sandbox: Sandbox
) -> None:
    """Attack 33."""
    filled = small.exec(["python3", "-c", MAKE_FILES], timeout_ms=300_000)

    with pytest.raises(FileError) as raised:
        small.files.write("/workspace/by-api", "x")
    reason, made = filled.stdout.split()
    assert (reason, raised.value.reason) == ("ENOSPC", "no_space")
    assert INODES // 2 < int(made) < INODES
    assert small.exec("echo here").stdout == "here\n"
    sandbox.files.write("/workspace/other", "x")
    small.files.remove("/workspace/0", recursive=True)
    small.files.write("/workspace/by-api", "x")


def claim(size: int, *, sparse: bool) -> bytes:
    """An archive of a file that says it has that size, and ends after a little of it."""
    info = tarfile.TarInfo("huge")
    info.size = size
    if sparse:
        info.pax_headers = {
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "huge",
            "GNU.sparse.realsize": str(size),
        }  # fmt: skip
        info.size = 1024
    return info.tobuf(tarfile.PAX_FORMAT) + bytes(4096)


@pytest.mark.parametrize("sparse", [False, True], ids=["cut short", "sparse"])
@pytest.mark.parametrize("size", [2 * GIB, 1 << 50, (1 << 63) - 1])
def test_an_archive_takes_no_more_than_what_was_sent(
    api: Api, sandbox: Sandbox, server: ServerProcess, size: int, sparse: bool
) -> None:
    """Attack 24."""
    before = resident_mb(server.pid)
    target = f"/v1/sandboxes/{sandbox.id}/files/archive?path=/tmp/claimed"

    answer = api.call(
        "PUT", target, claim(size, sparse=sparse), headers={"Content-Type": "application/x-tar"}
    )

    assert answer.status in (200, 400, 413), answer.body
    used = sandbox.exec("du -sk --apparent-size /tmp/claimed | cut -f 1; echo here").stdout.split()
    assert used[-1] == "here"
    assert len(used) == 1 or int(used[0]) < 1024
    assert resident_mb(server.pid) - before < 32


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_hundred_thousand_members_are_unpacked_or_refused(api: Api, sandbox: Sandbox) -> None:
    """Attack 24. In four parts, as a test's patience with one request ends before gVisor is done with all."""
    target = f"/v1/sandboxes/{sandbox.id}/files/archive?path=/tmp/members"
    for part in range(4):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for number in range(25_000):
                archive.addfile(tarfile.TarInfo(f"{part}/{number % 100}/{number}"))

        answer = api.call(
            "PUT", target, buffer.getvalue(), headers={"Content-Type": "application/x-tar"}
        )

        assert answer.status in (200, 400, 413)
    assert sandbox.exec("echo here").stdout == "here\n"
