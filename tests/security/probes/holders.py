# SPDX-License-Identifier: Apache-2.0
"""Has the kernel hold something, says how many bytes, and waits."""

from __future__ import annotations

import fcntl
import functools
import os
import socket
import sys
import threading
from collections.abc import Callable

MIB = 1 << 20
held: list[object] = []


def hold_memory() -> int:
    held.append(b"x" * (128 * MIB))
    return 128 * MIB


def hold_shm() -> int:
    return fill("/dev/shm/fill", 128)


def hold_page_cache() -> int:
    return fill("/root/fill", 128)


def fill(path: str, mebibytes: int) -> int:
    piece = os.urandom(MIB)
    with open(path, "wb") as file:
        for _ in range(mebibytes):
            file.write(piece)
    held.append(open(path, "rb"))
    os.unlink(path)
    return mebibytes * MIB


def hold_pipes() -> int:
    total = 0
    for _ in range(32):
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        fcntl.fcntl(writer, 1031, MIB)  # F_SETPIPE_SZ
        total += write_all(functools.partial(os.write, writer))
        held.append(reader)
    return total


def hold_sockets() -> int:
    total = 0
    for _ in range(256):
        pair = socket.socketpair()
        pair[0].setblocking(False)
        total += write_all(pair[0].send)
        held.append(pair)
    return total


def write_all(write: Callable[[bytes], int]) -> int:
    total = 0
    try:
        while True:
            total += write(b"x" * 65536)
    except BlockingIOError:
        return total


def hold_names() -> int:
    """Names of files in the kernel's memory: some hundred bytes each."""
    os.makedirs("/root/names")
    os.chdir("/root/names")
    for number in range(60_000):
        os.close(os.open(f"{number:0100}", os.O_CREAT | os.O_WRONLY))
    return 60_000 * 160


print(globals()["hold_" + sys.argv[1].replace(" ", "_")](), flush=True)
threading.Event().wait(600)
