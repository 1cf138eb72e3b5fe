# SPDX-License-Identifier: Apache-2.0
"""Takes many of something, says how many there were, and keeps them for some seconds."""

from __future__ import annotations

import ctypes
import os
import sys
import threading

libc = ctypes.CDLL(None, use_errno=True)
ended = threading.Event()


def take_file(_: int) -> None:
    os.open("/dev/null", os.O_RDONLY)


def take_thread(_: int) -> None:
    threading.Thread(target=ended.wait, daemon=True).start()


def take_inotify(_: int) -> None:
    if libc.inotify_init1(0) < 0:
        raise OSError(ctypes.get_errno())


what, many, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
take = {"files": take_file, "threads": take_thread, "inotify": take_inotify}[what]
threading.stack_size(64 * 1024)
taken = 0
try:
    while taken < many:
        take(taken)
        taken += 1
except (OSError, RuntimeError):
    pass
# Written by the bare call: with every file taken, nothing can be opened any more.
os.write(1, b"%d\n" % taken)
ended.wait(seconds)
os._exit(0)
