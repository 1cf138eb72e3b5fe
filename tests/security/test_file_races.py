# SPDX-License-Identifier: Apache-2.0
"""What a user of a sandbox must not make its root do by swapping files for links while the API works on them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from atoll import FileError, FileNotFound, Sandbox
from tests.support.api import Api

SECRET = "of-root-alone"
ROUNDS = 40
# Many of one name in both directories: whoever works through a list of names is likely to be on it when they change.
FILES = 50
# As often as it can: the directory `/tmp/race/tree/sub`, then in its place a link to what only root may touch.
SWAP = f"""
FILES = {FILES}
import os
from contextlib import suppress
os.makedirs('/tmp/race', exist_ok=True); os.chdir('/tmp/race')
if not os.path.islink('link'): os.symlink('/srv/kept', 'link')
print('swapping', flush=True)
while True:
    with suppress(OSError):
        os.makedirs('tree/sub', exist_ok=True)
        for number in range(FILES): open(f'tree/sub/{{number}}', 'w').close()
    with suppress(OSError):
        os.rename('tree/sub', 'away'); os.rename('link', 'tree/sub')
    with suppress(OSError): os.rename('tree/sub', 'link')
    with suppress(OSError): os.rename('away', 'tree/sub')
    with suppress(OSError):
        if not os.path.lexists('link'): os.symlink('/srv/kept', 'link')
"""


@contextmanager
def swapping(sandbox: Sandbox) -> Iterator[None]:
    sandbox.exec(
        f"mkdir -p /srv/kept; for n in $(seq 0 {FILES - 1}); do printf {SECRET} > /srv/kept/$n; done; "
        "chmod 600 /srv/kept/*; chmod 711 /srv/kept; rm -rf /tmp/race",
        check=True,
    )
    swapper = sandbox.processes.start(["python3", "-c", SWAP], user="user")
    try:
        next(iter(swapper.stream()))
        yield
    finally:
        swapper.kill()


def assert_kept(sandbox: Sandbox) -> None:
    look = "stat -c '%a %u' /srv/kept /srv/kept/* | sort | uniq -c; cat /srv/kept/*"
    kept = sandbox.exec(look).stdout.split()
    assert kept == [str(FILES), "600", "0", "1", "711", "0", SECRET * FILES]


def test_removing_what_is_swapped_removes_nothing_else(sandbox: Sandbox) -> None:
    """Attack 23."""
    with swapping(sandbox):
        for _ in range(ROUNDS):
            with suppress(FileError, FileNotFound):
                sandbox.files.remove("/tmp/race/tree", recursive=True)

        assert_kept(sandbox)


def test_changing_what_is_swapped_changes_nothing_else(sandbox: Sandbox) -> None:
    """Attack 25: the second way of CVE-2024-28189, by a race."""
    with swapping(sandbox):
        for _ in range(ROUNDS):
            with suppress(FileError, FileNotFound):
                sandbox.files.chown("/tmp/race/tree", "user", recursive=True)
            with suppress(FileError, FileNotFound):
                sandbox.files.chmod("/tmp/race/tree", 0o777, recursive=True)

        assert_kept(sandbox)


def test_downloading_what_is_swapped_brings_nothing_else(api: Api, sandbox: Sandbox) -> None:
    """CVE-2018-15664."""
    target = f"/v1/sandboxes/{sandbox.id}/files/archive?path=/tmp/race/tree"
    with swapping(sandbox):
        archives = [api.call("GET", target).body for _ in range(ROUNDS)]

        assert_kept(sandbox)
    assert any(b"sub" in archive for archive in archives)
    assert not any(SECRET.encode() in archive for archive in archives)


def test_unpacking_into_what_is_swapped_writes_nowhere_else(api: Api, sandbox: Sandbox) -> None:
    """CVE-2018-15664 the other way."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(FILES):
            info = tarfile.TarInfo(f"sub/{number}")
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
    target = f"/v1/sandboxes/{sandbox.id}/files/archive?path=/tmp/race/tree"
    headers = {"Content-Type": "application/x-tar"}
    with swapping(sandbox):
        answers = [
            api.call("PUT", target, buffer.getvalue(), headers=headers) for _ in range(ROUNDS)
        ]

        assert_kept(sandbox)
    assert {answer.status for answer in answers} <= {200, 400, 404, 409}
