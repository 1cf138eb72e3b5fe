# SPDX-License-Identifier: Apache-2.0
"""The Linux calls for a process's own capabilities and secrecy that Python's library lacks, and nothing that decides.

Capabilities belong to threads: what is changed here holds for the calling thread and those that it starts from then on.
Sets are masks, bit n for capability n. Numbers are those of include/uapi/linux (prctl.h, capability.h).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_HEADER = struct.pack("=Ii", _VERSION_3, 0)
_SETS = struct.Struct("=6I")
_WORD = 0xFFFF_FFFF


def permitted() -> int:
    """What this thread may use."""
    record = ctypes.create_string_buffer(_SETS.size)
    _check(_libc.capget(_HEADER, record), "capget")
    _, low, _, _, high, _ = _SETS.unpack(record.raw)
    return int(high << 32 | low)


def bounding() -> int:
    """What a program that this thread starts may have at most."""
    found, number = 0, 0
    while (held := _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0)) >= 0:
        found |= held << number
        number += 1
    return found


def restrict(mask: int) -> None:
    """Keep of every set what `mask` has, and nothing that a program could inherit besides. Needs CAP_SETPCAP."""
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "clear ambient set")
    surplus = bounding() & ~mask
    for number in range(surplus.bit_length()):
        if surplus >> number & 1:
            _check(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), f"drop capability {number}")
    kept = permitted() & mask
    low, high = kept & _WORD, kept >> 32
    _check(_libc.capset(_HEADER, _SETS.pack(low, low, 0, high, high, 0)), "capset")


def forbid_new_privileges() -> None:
    """No program started from now on gains rights by being setuid or by capabilities of its file."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def forbid_dumps() -> None:
    """This process's memory is not written to a core file, nor read by others that lack CAP_SYS_PTRACE."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "not dumpable")


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno() or errno.EPERM
        raise OSError(number, f"{what}: {os.strerror(number)}")
