# SPDX-License-Identifier: Apache-2.0
"""The Linux calls for mounts, loop devices and user namespaces that Python's library lacks, and nothing that decides.

Numbers are those of include/uapi/linux (mount.h, loop.h, sched.h) and are the same on x86-64 and arm64.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOSYMFOLLOW = 0x100
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

_CLONE_FS = 0x00000200
_CLONE_NEWNS = 0x00020000
_MNT_DETACH = 2
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 0x1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOUNT_ATTR_RDONLY = 0x1
_MOUNT_ATTR_NOSUID = 0x2
_MOUNT_ATTR_NODEV = 0x4
_MOUNT_ATTR_IDMAP = 0x00100000
_ATTRIBUTES = (
    (MS_RDONLY, _MOUNT_ATTR_RDONLY),
    (MS_NOSUID, _MOUNT_ATTR_NOSUID),
    (MS_NODEV, _MOUNT_ATTR_NODEV),
)
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}

SHORTEST_TURN_NS = 100_000
"""The shortest that Linux grants (`set_turns`)."""
_PR_SET_TIMERSLACK = 29

# size, policy, flags, nice, priority, runtime, deadline, period
_SCHED_ATTR = "=IIQiIQQQ"

_IN_MODIFY = 0x2
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CTL_GET_FREE = 0x4C82
_LO_FLAGS_AUTOCLEAR = 4
_LO_FLAGS_DIRECT_IO = 16
_LOOP_ATTEMPTS = 64


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def set_turns(nanoseconds: int, *, policy: int) -> None:
    """Say how the calling thread, and every program it starts from now on, shares processors while others wait.

    `nanoseconds` is how long one turn lasts: who asks for shorter turns gets no less time, but gets its turn sooner.
    Linux takes 100 µs to 100 ms since 6.12 and ignores it before (sched_setattr(2), `sched_runtime`). `policy` is
    `SCHED_OTHER`, or `SCHED_BATCH`, under which who wakes waits for the end of the turn of who runs (sched(7)). A
    server that was given a policy of another kind keeps it.
    """
    number = _SYS_SCHED_SETATTR.get(os.uname().machine)
    if number is None or os.sched_getscheduler(0) not in (os.SCHED_OTHER, os.SCHED_BATCH):
        return
    # Both are set by one call, and a server with another than 0 may not be allowed to change it.
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    size = struct.calcsize(_SCHED_ATTR)
    attributes = struct.pack(_SCHED_ATTR, size, policy, 0, nice, 0, nanoseconds, 0, 0)
    _check(_libc.syscall(number, 0, attributes, 0), "sched_setattr")


def set_timer_slack(nanoseconds: int) -> None:
    """Say how late the timers of the calling thread, and of every program it starts from now on, may be (prctl(2))."""
    _check(
        _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(nanoseconds), 0, 0, 0), "PR_SET_TIMERSLACK"
    )


def enter_private_mounts() -> None:
    """Give the calling thread a mount namespace of its own, cut off from the host's.

    Only this thread is moved (mount namespaces belong to tasks), with the programs it starts from now on. The thread
    must end soon and never serve anything else.
    """
    result = _libc.unshare(_CLONE_NEWNS)
    _check(result, "unshare mount namespace")
    mount(None, "/", None, MS_REC | MS_PRIVATE)


def enter_copied_mounts(namespace: int) -> None:
    """The same, with the mounts of the mount namespace of that descriptor, in which none are shared.

    The thread's directory is then the root of these.
    """
    # Only who shares no directories with other threads may change to a mount namespace.
    _check(_libc.unshare(_CLONE_FS), "unshare directories")
    _check(_libc.setns(namespace, _CLONE_NEWNS), "enter mount namespace")
    _check(_libc.unshare(_CLONE_NEWNS), "unshare mount namespace")


def mount(
    source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None
) -> None:
    """mount(2)."""
    result = _libc.mount(
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        None if data is None else os.fsencode(data),
    )
    _check(result, f"mount {kind or 'bind'} at {target}")


def bind(source: str, target: str, flags: int = 0) -> None:
    """Make `source` appear at `target`; `flags` (such as MS_RDONLY) need a second call, as the first ignores them."""
    mount(source, target, None, MS_BIND)
    if flags:
        mount(None, target, None, MS_BIND | MS_REMOUNT | flags)


def unmount(target: str) -> None:
    """Detach what is mounted at `target`; nothing mounted there is fine."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH) < 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            raise OSError(number, f"umount {target}: {os.strerror(number)}")


def take_copy(source: str, *, user_namespace: int | None = None, flags: int = 0) -> int:
    """A descriptor of a copy of the mount at `source`, to be attached anywhere, its owners mapped through
    `user_namespace`. Of `flags` there may be MS_RDONLY, MS_NOSUID and MS_NODEV, more than what the mount has already.
    """
    tree = _check(
        _libc.syscall(
            _SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
        ),
        f"open_tree {source}",
    )
    try:
        attributes = sum(attribute for flag, attribute in _ATTRIBUTES if flags & flag)
        if user_namespace is not None:
            attributes |= _MOUNT_ATTR_IDMAP
        record = struct.pack("QQQQ", attributes, 0, 0, user_namespace or 0)
        result = _libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, record, len(record))
        _check(result, f"mount_setattr {source}")
    except BaseException:
        os.close(tree)
        raise
    return tree


def attach(tree: int, target: str) -> None:
    """Let a copy that was taken appear at `target`."""
    result = _libc.syscall(
        _SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH
    )
    _check(result, f"move_mount {target}")


def watch_changes(file: Path) -> int:
    """A non-blocking inotify descriptor that becomes readable when `file` changes."""
    descriptor = _check(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")
    try:
        _check(_libc.inotify_add_watch(descriptor, os.fsencode(file), _IN_MODIFY), f"watch {file}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def attach_loop(image: Path) -> tuple[str, int]:
    """Put `image` behind a loop device and return its path and an open descriptor.

    The device frees itself (LO_FLAGS_AUTOCLEAR) once the descriptor is closed and nothing has it mounted. It goes past
    the host's page cache, where the file system allows it: what is written is then in memory once, and on the sandbox's
    account.
    """
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_LOOP_ATTEMPTS):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = f"/dev/loop{number}"
            descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(descriptor, _LOOP_CONFIGURE, _loop_config(backing))
            except OSError as error:
                os.close(descriptor)
                # Another process took the device between the two calls; ask for the next one.
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, descriptor
    finally:
        os.close(control)
        os.close(backing)
    raise OSError(errno.EBUSY, "no free loop device")


def _loop_config(backing: int) -> bytes:
    flags = _LO_FLAGS_AUTOCLEAR | _LO_FLAGS_DIRECT_IO
    info = struct.pack("=5Q4I64s64s32s2Q", 0, 0, 0, 0, 0, 0, 0, 0, flags, b"", b"", b"", 0, 0)
    return struct.pack("=II", backing, 4096) + info + bytes(64)
