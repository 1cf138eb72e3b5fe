# SPDX-License-Identifier: Apache-2.0
"""Makes system calls by chance: any number, any arguments, addresses and descriptors that work among them.

Runs inside. Arguments: for how many seconds, and a seed. Prints as JSON how many calls were made and what they
answered. Left out is what would end it before its time, or make more of it.
"""

import ctypes
import errno
import json
import os
import random
import resource
import select
import signal
import sys
import tempfile
import time
from collections import Counter

seconds, seed = float(sys.argv[1]), int(sys.argv[2])
_LAST = 470
# clone, fork, vfork, exit, kill, ptrace, sigqueueinfo, tkill, tgkill, exit_group, clone3, pidfd_send_signal
_LEFT_OUT = {56, 57, 58, 60, 62, 101, 129, 200, 231, 234, 297, 424, 435}
_CALLS_OF_A_CHILD, _CHILD_SECONDS = 400, 0.2
libc = ctypes.CDLL(None, use_errno=True)
_buffer = ctypes.create_string_buffer(b"/tmp/fuzz\0", 65536)
_ADDRESS = ctypes.addressof(_buffer)
_NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    64,
    255,
    4095,
    4096,
    65536,
    -1,
    -2,
    -100,
    1 << 31,
    1 << 32,
    (1 << 63) - 1,
)


def argument(chance: random.Random) -> int:
    kind = chance.randrange(6)
    if kind < 2:
        return chance.choice(_NUMBERS)
    if kind == 2:
        return _ADDRESS + chance.randrange(0, 60000)
    if kind == 3:
        return chance.randrange(0, 32)
    return chance.getrandbits(64) >> chance.randrange(64)


def open_some() -> None:
    """Descriptors of many kinds."""
    for path in (
        "/",
        "/proc/self/mem",
        "/dev/null",
        "/dev/ptmx",
        "/sys",
        "/dev/shm",
        "/proc/self/ns/net",
    ):
        try:
            os.open(path, os.O_RDONLY)
        except OSError:
            continue
    os.pipe()
    os.openpty()
    os.memfd_create("x")
    os.eventfd(0)
    select.epoll()


def let_go_of_the_result() -> None:
    """What a call by chance writes to the standard output must not stand in what is printed at the end."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)


def be_a_child(chance: random.Random, writer: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    let_go_of_the_result()
    signal.setitimer(signal.ITIMER_REAL, _CHILD_SECONDS)
    open_some()
    for _ in range(_CALLS_OF_A_CHILD):
        number = chance.randrange(_LAST)
        if number in _LEFT_OUT:
            continue
        given = [ctypes.c_long(argument(chance)) for _ in range(6)]
        ctypes.memmove(_ADDRESS, chance.randbytes(4096), 4096)
        done = libc.syscall(ctypes.c_long(number), *given)
        name = "done" if done >= 0 else errno.errorcode.get(ctypes.get_errno(), "other")
        libc.write(writer, f"{name}\n".encode(), len(name) + 1)
    os._exit(0)


def watch(pid: int, reader: int, answers: "Counter[str]") -> None:
    """Until it ends; one that outlives its time is killed."""
    end = time.monotonic() + 2 * _CHILD_SECONDS
    while (left := end - time.monotonic()) > 0 and select.select([reader], [], [], left)[0]:
        piece = os.read(reader, 65536)
        if not piece:
            break
        answers.update(word for word in piece.decode(errors="replace").split() if word.isascii())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


answers: "Counter[str]" = Counter()
chance = random.Random(seed)
end = time.monotonic() + seconds
os.chdir(tempfile.mkdtemp())
while time.monotonic() < end:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        be_a_child(random.Random(chance.random()), writer)
    chance.random()
    os.close(writer)
    watch(pid, reader, answers)
    os.close(reader)
known = {name: count for name, count in answers.items() if name.isalnum()}
print(json.dumps({"calls": sum(known.values()), "answers": known}))
