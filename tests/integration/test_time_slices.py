# SPDX-License-Identifier: Apache-2.0
"""Sandboxes and the server take turns in short ones."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from atoll import Atoll
from atoll_server.runtimes import kernel
from atoll_server.runtimes.kernel import SHORTEST_TURN_NS
from tests.support.processes import host_processes
from tests.support.server import ServerProcess

_SYS_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
_SCHED_ATTR = struct.Struct("=IIQiIQQQ")
_KNOWS_SLICES = (6, 12)

_libc = ctypes.CDLL(None, use_errno=True)


def test_every_process_of_a_sandbox_takes_short_turns(client: Atoll, runtime: str) -> None:
    _need_slices()
    with client.sandboxes.create("host", runtime=runtime) as sandbox:
        sandbox.processes.start("sleep 1000")

        slices = {_read_slice(pid) for pid in host_processes(sandbox.id)}

    assert slices == {SHORTEST_TURN_NS}


def test_every_thread_of_the_server_takes_short_turns(server: ServerProcess) -> None:
    _need_slices()

    slices = {_read_slice(int(task)) for task in os.listdir(f"/proc/{server.pid}/task")}

    assert slices == {SHORTEST_TURN_NS}


def test_a_server_keeps_the_priority_that_it_was_given() -> None:
    def start() -> int:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        kernel.set_turns(SHORTEST_TURN_NS, policy=os.SCHED_OTHER)
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(start).result() == 5


def _need_slices() -> None:
    if tuple(map(int, os.uname().release.split(".")[:2])) < _KNOWS_SLICES:
        pytest.skip("host lacks a kernel with time slices of a process's own (Linux 6.12)")


def _read_slice(pid: int) -> int:
    """sched_getattr(2), `sched_runtime`."""
    record = ctypes.create_string_buffer(_SCHED_ATTR.size)
    result = _libc.syscall(_SYS_SCHED_GETATTR[os.uname().machine], pid, record, _SCHED_ATTR.size, 0)
    assert result == 0, os.strerror(ctypes.get_errno())
    runtime: int = _SCHED_ATTR.unpack(record.raw)[5]
    return runtime
