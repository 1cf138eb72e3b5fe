# SPDX-License-Identifier: Apache-2.0
"""Known ways out of containers: none of them leads out of a sandbox. Attacks 9 and 19."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll import Atoll
from atoll_server.engine.opening import AGENT_BINARY as AGENT
from tests.conftest import RUNTIME_PROGRAMS
from tests.security.conftest import Probe
from tests.support.server import HOUR_MS

# A script whose interpreter is whatever program starts it: what is then open for writing is that program.
STARTS_ITS_STARTER = "#!/proc/self/exe\n"
WRITE_TO_WHAT_RUNS = """
import os
print('begins', flush=True)
tried = set()
while not os.path.exists('/tmp/enough'):
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            # Held by its path first: it can be opened for writing as soon as the program has ended.
            program = os.open(f'/proc/{pid}/exe', os.O_PATH)
            name = os.readlink(f'/proc/self/fd/{program}')
            if 'python' in name: continue  # this one; gVisor lets a sandbox overwrite what runs of its own
            tried.add(name)
            try: os.write(os.open(f'/proc/self/fd/{program}', os.O_WRONLY), b'overwritten')
            finally: os.close(program)
        except OSError: continue
print(*sorted(tried))
"""


@pytest.fixture
def marks() -> Iterator[Path]:
    """A directory that only the host has, where a program that the host was made to run would leave something."""
    with tempfile.TemporaryDirectory(prefix="atoll-marks-", dir="/srv") as directory:
        yield Path(directory)


def test_no_known_way_out_reaches_the_host(probe: Probe, marks: Path) -> None:
    """Attack 19: the probe's ways name their CVEs."""
    secret = secrets.token_hex()
    flag = Path("/srv", f"atoll-flag-{secrets.token_hex(4)}")
    flag.write_text(secret)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{flag.name}")
            listener.listen()
            found = probe("escapes", str(flag), str(marks), flag.name)
    finally:
        flag.unlink()

    assert len(found) == 15
    assert {
        name: brought
        for name, brought in found.items()
        if secret in brought or brought == "reached"
    } == {}
    assert list(marks.iterdir()) == []


def test_nothing_mounted_read_only_becomes_writable(probe: Probe, runtime: str) -> None:
    """CVE-2026-46695, where root inside could mount a read-only share anew."""
    before = describe(AGENT)

    found = probe("remount")

    assert {"/run/atoll/agent", "/sys"} <= set(found["read-only"])
    assert (found["written"], found["written in a namespace"]) == ([], [])
    assert describe(AGENT) == before


CHANGES = (
    "echo x >> {}", "truncate -s 0 {}", "chmod 777 {}", "chown 1000 {}", "touch -d 2001-01-01 {}", "ln {} {}2",
    "cp --remove-destination /bin/true {}", "setfattr -n user.x -v y {}", "umount -l {}", "mv {} {}3", "rm -f {}",
)  # fmt: skip


def test_the_program_of_the_agent_does_not_change(client: Atoll, runtime: str) -> None:
    """Attack 9: every sandbox runs this one file of the host. In its own tree gVisor lets go of the name."""
    before = describe(AGENT)

    with client.sandboxes.create("host", runtime=runtime) as own:
        tried = " ; ".join(CHANGES).format(*["/run/atoll/agent"] * 20)
        done = own.exec(f"set -x; {tried}; exit 0", check=True)

    assert done.stderr.count("/run/atoll/agent") >= len(CHANGES)
    assert describe(AGENT) == before


@pytest.mark.parametrize(
    "times", [25, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])]
)
def test_a_program_that_starts_its_starter_overwrites_nothing_of_the_host(
    client: Atoll, runtime: str, times: int
) -> None:
    """Attack 9: CVE-2019-5736."""
    programs = [AGENT, *_programs_of(runtime)]
    before = {program: describe(program) for program in programs}
    with client.sandboxes.create("host", runtime=runtime, timeout_ms=HOUR_MS) as sandbox:
        sandbox.files.write("/tmp/shell", STARTS_ITS_STARTER, mode=0o755)
        writer = sandbox.processes.start(["python3", "-c", WRITE_TO_WHAT_RUNS])
        next(iter(writer.stream()))
        for _ in range(times):
            sandbox.exec(["/tmp/shell"])
        with client.sandboxes.create("host", runtime=runtime) as another:
            assert another.exec("echo here").stdout == "here\n"
        sandbox.files.write("/tmp/enough", "")
        tried = writer.wait(20_000).stdout.split()

    assert "begins" in tried
    # gVisor refuses to start such a script. Here the starter is there to be overwritten.
    assert runtime == "gvisor" or any(name.endswith("agent") for name in tried), tried
    assert {program: describe(program) for program in programs} == before


def test_the_pages_of_a_shared_file_cannot_be_changed(client: Atoll, runtime: str) -> None:
    """CVE-2022-0847 and CVE-2016-5195: what a layer shows read-only is in memory once, for the host as well."""
    shared = Path("/usr/local/share/atoll-test-shared")
    shared.write_text("as it was\n")
    try:
        with client.sandboxes.create("host", runtime=runtime) as sandbox:
            seen = Probe(sandbox)("page_cache", str(shared))
        after = shared.read_text()
    finally:
        shared.unlink()

    assert (seen, after) == ("as it was", "as it was\n")


def describe(program: Path) -> tuple[object, ...]:
    status = program.stat()
    content = hashlib.sha256(program.read_bytes()).hexdigest()
    return content, status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns


def _programs_of(runtime: str) -> list[Path]:
    found = [shutil.which(name) for name in RUNTIME_PROGRAMS[runtime]]
    return [Path(name) for name in found if name is not None]
