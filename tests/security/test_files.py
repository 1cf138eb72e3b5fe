# SPDX-License-Identifier: Apache-2.0
"""What files of a sandbox must not do to its host: attacks 21 to 26 and 34, item 49."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from atoll import Atoll, Error, FileError, FileNotFound, Sandbox, UnsafeArchive
from tests.support.api import Answer, Api
from tests.support.processes import resident_mb
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

CANARY = "the-host-keeps-this"
DOWNLOAD_LIMIT = 64 << 20


@pytest.fixture
def canary() -> Iterator[Path]:
    """A file of the host where a sandbox has none."""
    path = Path("/srv/atoll-test-canary")
    path.write_text(CANARY)
    yield path
    path.unlink(missing_ok=True)


def upload_tar(api: Api, sandbox: Sandbox, data: bytes, path: str = "/tmp/unpacked") -> Answer:
    return api.call(
        "PUT",
        f"/v1/sandboxes/{sandbox.id}/files/archive?path={path}",
        data,
        headers={"Content-Type": "application/x-tar"},
    )


def make_tar(*members: tarfile.TarInfo, content: bytes = b"evil") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if member.isreg():
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return buffer.getvalue()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = 1, 1
    return info


@pytest.mark.parametrize(
    "path",
    [
        "../../../../../../srv/atoll-test-canary",
        "/../../srv/atoll-test-canary",
        "%2e%2e/%2e%2e/%2e%2e/srv/atoll-test-canary",
        "..%2f..%2f..%2fsrv%2fatoll-test-canary",
        "..%5c..%5csrv%5catoll-test-canary",
        "%252e%252e%252fsrv/atoll-test-canary",
        "%c0%ae%c0%ae/%c0%ae%c0%ae/srv/atoll-test-canary",
        "/proc/1/root/srv/atoll-test-canary",
        "/proc/self/root/srv/atoll-test-canary",
        "/proc/self/cwd/../../srv/atoll-test-canary",
        "/srv/atoll-test-canary",
    ],
)
def test_no_path_leads_to_a_file_of_the_host(
    api: Api, sandbox: Sandbox, canary: Path, path: str
) -> None:
    """Attack 21, item 49."""
    files = f"/v1/sandboxes/{sandbox.id}/files"
    headers = {"Content-Type": "application/octet-stream"}

    read = api.call("GET", f"{files}?path={path}", headers={"Accept": "application/octet-stream"})
    written = api.call("PUT", f"{files}?path={path}", b"changed", headers=headers)
    removed = api.call("DELETE", f"{files}?path={path}")

    assert CANARY.encode() not in read.body
    assert read.status in (400, 403, 404, 409)
    assert max(written.status, removed.status) < 500
    assert canary.read_text() == CANARY


def test_links_are_followed_inside_only(sandbox: Sandbox, canary: Path) -> None:
    """Attack 22, item 49."""
    sandbox.exec(
        f"ln -sf {canary} /tmp/absolute; ln -sf ../../../../..{canary} /tmp/relative; "
        "ln -sfn /proc/1/root /tmp/root; ln -sf /etc/shadow /tmp/shadow"
    )

    for name in ("absolute", "relative", f"root{canary}", "shadow"):
        with pytest.raises(FileNotFound):
            sandbox.files.read(f"/tmp/{name}")
    sandbox.files.write("/tmp/absolute", "inside")

    assert canary.read_text() == CANARY
    assert sandbox.exec(["cat", str(canary)]).stdout == "inside"
    sandbox.exec(["rm", str(canary)])


def test_a_race_of_links_leads_nowhere(sandbox: Sandbox) -> None:
    """Attack 23."""
    outside = Path("/srv/atoll-test-race")
    sandbox.exec(
        "mkdir -p /tmp/race /srv; cd /tmp/race; (while :; do ln -sfn / d; ln -sfn /tmp d; done) >/dev/null 2>&1 &"
    )

    for number in range(300):
        with suppress(FileError, FileNotFound):
            sandbox.files.write("/tmp/race/d/srv/atoll-test-race", str(number))

    sandbox.exec("pkill -f 'ln -sfn'; pkill -f 'while :'")
    assert not outside.exists()


EVIL_MEMBERS = {
    "parent": [member("../escaped")],
    "deep parent": [member("a/../../escaped")],
    "absolute": [member("/tmp/escaped")],
    "through a link": [member("l", tarfile.SYMTYPE, "/tmp"), member("l/escaped")],
    "through a relative link": [member("l", tarfile.SYMTYPE, ".."), member("l/escaped")],
    "through two links": [
        member("a", tarfile.SYMTYPE, "."),
        member("b", tarfile.SYMTYPE, "a/.."),
        member("b/escaped"),
    ],
    "hard link outside": [member("h", tarfile.LNKTYPE, "/etc/passwd"), member("h")],
    "hard link to a parent": [member("h", tarfile.LNKTYPE, "../../etc/passwd")],
    "character device": [member("d", tarfile.CHRTYPE)],
    "block device": [member("d", tarfile.BLKTYPE)],
    "NUL in a name": [member("x\0y/../../escaped")],
}


@pytest.mark.parametrize("what", EVIL_MEMBERS)
def test_an_archive_is_unpacked_beneath_its_directory_or_refused(
    api: Api, sandbox: Sandbox, what: str
) -> None:
    """Attack 24."""
    sandbox.exec("rm -rf /tmp/unpacked /tmp/escaped; cp /etc/passwd /tmp/passwd")

    answer = upload_tar(api, sandbox, make_tar(*EVIL_MEMBERS[what]))

    assert answer.status in (200, 400, 409), answer.body
    after = sandbox.exec(
        "find / -xdev -name escaped -not -path '/tmp/unpacked/*' 2>/dev/null; cmp /etc/passwd /tmp/passwd; "
        "find /tmp/unpacked -type b -o -type c; stat -c %h /etc/passwd"
    )
    assert after.stdout == "1\n"
    assert not Path("/tmp/escaped").exists()


def test_an_archive_gives_nobody_another_users_rights(api: Api, sandbox: Sandbox) -> None:
    """Attack 24."""
    answer = upload_tar(
        api, sandbox, make_tar(member("s", mode=0o6755), member("p", tarfile.FIFOTYPE))
    )

    assert answer.status in (200, 400)
    found = sandbox.exec("find /tmp/unpacked -perm /6000").stdout
    assert found == ""


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"x" * 512, b"\0" * 1024, os.urandom(10_000), b"\x1f\x8b" + b"\0" * 600],
    ids=["empty", "byte", "block", "zeros", "noise", "gzip"],
)
def test_what_is_no_archive_is_refused_or_empty(api: Api, sandbox: Sandbox, data: bytes) -> None:
    answer = upload_tar(api, sandbox, data, "/tmp/no-archive")

    assert answer.status in (200, 400)
    assert sandbox.exec("ls -A /tmp/no-archive 2>/dev/null").stdout == ""


def test_an_archive_cut_short_is_refused(api: Api, sandbox: Sandbox) -> None:
    whole = make_tar(member("file"), content=b"x" * 5000)

    answer = upload_tar(api, sandbox, whole[:3000], "/tmp/cut-archive")

    assert answer.status == 400, answer.body


def test_ten_thousand_entries_are_unpacked_or_refused(api: Api, sandbox: Sandbox) -> None:
    """Attack 24."""
    data = make_tar(*(member(f"d{number % 100}/{number}") for number in range(10_000)), content=b"")

    answer = upload_tar(api, sandbox, data, "/tmp/many-entries")

    assert answer.status in (200, 400, 413)
    assert sandbox.exec("echo here").stdout == "here\n"


def test_a_downloaded_directory_writes_nothing_outside(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.exec(
        "mkdir -p /tmp/evil/d; cd /tmp/evil; ln -s / root; ln -s ../../../.. up; ln -s /etc/passwd link; "
        "mkfifo pipe; echo x > d/file; ln d/file d/hard; chmod 6755 d/file"
    )

    with suppress(UnsafeArchive):
        sandbox.files.download_dir("/tmp/evil", tmp_path / "inner" / "target")

    assert os.listdir(tmp_path) == ["inner"]
    assert os.listdir(tmp_path / "inner") == ["target"]
    for path in (tmp_path / "inner" / "target").rglob("*"):
        assert path.resolve().is_relative_to(tmp_path)
        assert not path.lstat().st_mode & 0o6000


def test_changing_a_link_does_not_change_its_target(sandbox: Sandbox) -> None:
    """Attack 25: CVE-2024-28189."""
    sandbox.exec("echo x > /tmp/target; chmod 600 /tmp/target; ln -sfn /tmp/target /tmp/changed")

    with pytest.raises(FileError):
        sandbox.files.chmod("/tmp/changed", 0o777)
    sandbox.files.chown("/tmp/changed", "user")
    sandbox.files.chown("/tmp/changed", "user", recursive=True)

    assert sandbox.exec("stat -c '%a %u' /tmp/target").stdout == "600 0\n"


@pytest.mark.parametrize(
    "path",
    ["/proc/kmsg", "/dev/zero", "/dev/random", "/tmp/pipe", "/proc/kcore", "/dev/tty", "/tmp"],
)
def test_reading_what_never_ends_is_refused_at_once(api: Api, sandbox: Sandbox, path: str) -> None:
    """Attack 26."""
    sandbox.exec("mkfifo /tmp/pipe")

    answer = api.call(
        "GET",
        f"/v1/sandboxes/{sandbox.id}/files?path={path}",
        headers={"Accept": "application/octet-stream"},
    )

    assert 400 <= answer.status < 500, answer.body[:100]
    assert answer.seconds < 2


def test_reading_a_huge_sparse_file_costs_no_memory(
    api: Api, sandbox: Sandbox, server: ServerProcess
) -> None:
    """Attack 26."""
    sandbox.exec("truncate -s 1T /tmp/sparse || truncate -s 100G /tmp/sparse", check=True)
    before = resident_mb(server.pid)
    target = f"/v1/sandboxes/{sandbox.id}/files?path=/tmp/sparse"

    as_json = api.call("GET", target)
    with api.open("GET", target, headers={"Accept": "application/octet-stream"}) as (response, _):
        seen = 0
        while seen < DOWNLOAD_LIMIT:
            seen += len(response.read(1 << 20))
        during = resident_mb(server.pid)

    assert (as_json.status, as_json.error["code"]) == (413, "TOO_LARGE")
    assert during - before < 32
    assert sandbox.exec("rm /tmp/sparse; echo here").stdout == "here\n"


def test_reading_a_file_that_grows_does_not_follow_it(sandbox: Sandbox) -> None:
    """What the file had when it was opened comes, and then the end, however fast a sandbox writes."""
    sandbox.exec("timeout 30 yes > /tmp/grows & sleep 0.2")

    size = sandbox.files.download("/tmp/grows", io.BytesIO())

    grown = sandbox.files.stat("/tmp/grows").size_bytes
    sandbox.exec("pkill yes; rm -f /tmp/grows")
    assert 0 < size < grown


@pytest.mark.slow
def test_a_sandbox_that_removes_everything_still_answers_or_says_that_it_failed(
    client: Atoll, runtime: str
) -> None:
    """Attack 34."""
    with client.sandboxes.create("host", runtime=runtime) as doomed:
        # The library tree is large, and nothing runs without its loader: enough to show what is meant.
        doomed.exec(
            "rm -rf --no-preserve-root /etc /lib64 /bin /sbin /workspace /tmp /root /var /home /usr/lib64 "
            "/usr/bin /usr/lib/x86_64-linux-gnu /run 2>/dev/null",
            timeout_ms=120_000,
        )

        with pytest.raises(Error) as raised:
            doomed.exec(["/bin/sh", "-c", "echo here"])

        assert raised.value.code in ("COMMAND_NOT_STARTED", "SANDBOX_FAILED")
        with suppress(Error):
            doomed.files.write("/tmp/again", "here")
            assert doomed.files.read("/tmp/again") == b"here"
    assert Path("/usr/bin/env").exists()
    with client.sandboxes.create("host", runtime=runtime) as another:
        assert another.exec("echo here").stdout == "here\n"


def test_two_uploads_of_one_archive_at_once_do_not_mix(api: Api, sandbox: Sandbox) -> None:
    tars = [make_tar(member("same"), content=letter * 100_000) for letter in (b"a", b"b")]
    uploads = [
        threading.Thread(target=upload_tar, args=(api, sandbox, data, "/tmp/same")) for data in tars
    ]
    for upload in uploads:
        upload.start()
    for upload in uploads:
        upload.join()

    content = wait_until(lambda: sandbox.files.read("/tmp/same/same"), what="the file")
    assert content in (b"a" * 100_000, b"b" * 100_000)
