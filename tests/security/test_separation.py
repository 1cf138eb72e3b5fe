# SPDX-License-Identifier: Apache-2.0
"""What one sandbox must not know of another, nor of the host. Attack 18; items 94, 95 and 97."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll import Atoll, Sandbox

LEAVE = r"""
import ctypes, os, signal, socket, time
open('/tmp/mark', 'w').write('mark')
open('/dev/shm/mark', 'w').write('mark')
open('/workspace/mark', 'w').write('mark')
open('/usr/share/mark', 'w').write('mark')
libc = ctypes.CDLL(None, use_errno=True)
segment = libc.shmget(0x41746f6c, 4096, 0o1666)
assert segment >= 0
assert libc.semget(0x41746f6c, 1, 0o1666) >= 0
assert libc.msgget(0x41746f6c, 0o1666) >= 0
abstract = socket.socket(socket.AF_UNIX); abstract.bind('\0atoll-mark'); abstract.listen()
tcp = socket.socket(); tcp.bind(('127.0.0.1', 4171)); tcp.listen()
print('left', flush=True)
time.sleep(60)
"""
LOOK = r"""
import ctypes, glob, os, socket
found = [p for d in ('/tmp', '/dev/shm', '/workspace', '/usr/share') for p in glob.glob(d + '/mark')]
libc = ctypes.CDLL(None)
if libc.shmget(0x41746f6c, 4096, 0) >= 0: found.append('shared memory')
if libc.semget(0x41746f6c, 1, 0) >= 0: found.append('semaphore')
if libc.msgget(0x41746f6c, 0) >= 0: found.append('queue')
for name, family, address in (
    ('abstract socket', socket.AF_UNIX, '\0atoll-mark'), ('port', socket.AF_INET, ('127.0.0.1', 4171))
):
    try: socket.socket(family).connect(address); found.append(name)
    except OSError: pass
if any(b'time.sleep(60)' in open(p, 'rb').read() for p in glob.glob('/proc/[0-9]*/cmdline')
       if int(p.split('/')[2]) != os.getpid()): found.append('process')
print(found)
"""


@pytest.fixture
def other(client: Atoll, runtime: str) -> Iterator[Sandbox]:
    with client.sandboxes.create("host", runtime=runtime) as other:
        yield other


def test_no_file_memory_socket_or_process_of_one_is_seen_by_another(
    sandbox: Sandbox, other: Sandbox
) -> None:
    sandbox.files.write("/root/leave.py", LEAVE)
    sandbox.exec("python3 /root/leave.py > /root/left 2>&1 &")
    sandbox.exec("until grep -q . /root/left; do sleep 0.05; done", timeout_ms=10_000)
    assert sandbox.files.read_text("/root/left") == "left\n"

    seen_by_itself = sandbox.exec(["python3", "-c", LOOK])
    seen_by_other = other.exec(["python3", "-c", LOOK], check=True)

    sandbox.exec("pkill -f leave.py")
    assert len(seen_by_itself.stdout.split(",")) >= 9, "the marks were not left"
    assert seen_by_other.stdout == "[]\n"


def test_what_is_written_below_usr_stays_inside(sandbox: Sandbox, other: Sandbox) -> None:
    sandbox.exec("echo changed > /usr/bin/atoll-mark; rm -rf /usr/share/doc", check=True)

    assert not Path("/usr/bin/atoll-mark").exists()
    assert not other.files.exists("/usr/bin/atoll-mark")
    assert Path("/usr/share/doc").is_dir()


@pytest.mark.parametrize(
    "path", ["/etc/shadow", "/root/.bashrc", "/root/.ssh", "/var/lib/atoll", "/work", "/opt/wheels",
             "/var/log/dpkg.log", "/var/lib/dpkg/status", "/home/user/.bashrc", "/boot"],
)  # fmt: skip
def test_files_of_the_host_beyond_usr_are_not_there(sandbox: Sandbox, path: str) -> None:
    """Item 95."""
    assert not sandbox.files.exists(path)


def test_processes_of_the_host_are_not_there(sandbox: Sandbox, server: object) -> None:
    """Item 95."""
    seen = sandbox.exec("ls /proc | grep -c '^[0-9]'; cat /proc/*/cmdline | tr '\\0' ' '").stdout

    assert "atoll_server" not in seen
    assert int(seen.split()[0]) < 30


@pytest.mark.slow
def test_a_fork_bomb_is_held_and_hurts_nobody_else(
    client: Atoll, other: Sandbox, runtime: str
) -> None:
    """Item 97, attack 48."""
    with client.sandboxes.create("host", runtime=runtime) as bombed:
        bombed.exec("(:(){ :|:& };:) >/dev/null 2>&1 &", timeout_ms=3000)

        started = time.perf_counter()
        answer = other.exec("echo here")
        took = time.perf_counter() - started

        assert answer.stdout == "here\n"
        assert took < 5
    assert client.sandboxes.get(bombed.id).state == "terminated"


def test_endless_output_leaves_others_responsive(
    client: Atoll, sandbox: Sandbox, other: Sandbox
) -> None:
    """Item 97."""
    sandbox.exec("yes >/dev/null & yes & yes >&2 &")

    took = []
    for _ in range(10):
        started = time.perf_counter()
        assert other.exec("echo here").stdout == "here\n"
        took.append(time.perf_counter() - started)

    sandbox.exec("pkill yes")
    assert sorted(took)[5] < 1
