# SPDX-License-Identifier: Apache-2.0
"""The system calls a `container` sandbox may make: an allow list, rendered as OCI `linux.seccomp`.

What is not named answers ENOSYS, so that libraries fall back to older calls (clone3 to clone, whose flags can be
checked). Calls that programs probe for and that must stay shut answer EPERM. gVisor needs none of this: its kernel is
its own. The list follows what the common container engines allow, less what needs a capability no sandbox has.
"""

from __future__ import annotations

import errno
import platform
from typing import Any

_FILES = """
    access faccessat faccessat2 open openat openat2 creat close close_range dup dup2 dup3 read readv pread64 preadv
    preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek truncate ftruncate fallocate fadvise64 readahead
    sync syncfs fsync fdatasync sync_file_range sendfile splice tee vmsplice copy_file_range
    stat fstat lstat newfstatat statx statfs fstatfs ustat
    getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat link linkat symlink symlinkat
    readlink readlinkat rename renameat renameat2 mknod mknodat chmod fchmod fchmodat fchmodat2 chown fchown lchown
    fchownat umask utime utimes utimensat futimesat flock fcntl chroot
    getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr removexattr
    lremovexattr fremovexattr inotify_init inotify_init1 inotify_add_watch inotify_rm_watch memfd_create
    name_to_handle_at cachestat
"""
_MEMORY = """
    brk mmap mprotect munmap mremap msync madvise mincore mlock mlock2 mlockall munlock munlockall remap_file_pages
    membarrier pkey_alloc pkey_free pkey_mprotect process_madvise map_shadow_stack mseal get_mempolicy set_mempolicy
    mbind
"""
_PROCESSES = """
    fork vfork execve execveat exit exit_group wait4 waitid getpid getppid gettid getpgid getpgrp getsid setpgid setsid
    kill tkill tgkill pidfd_open pidfd_send_signal prctl arch_prctl set_tid_address set_robust_list
    get_robust_list rseq futex futex_waitv futex_wake futex_wait futex_requeue
    getpriority setpriority sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam
    sched_getscheduler sched_setscheduler sched_getattr sched_setattr sched_get_priority_max sched_get_priority_min
    sched_rr_get_interval ioprio_get ioprio_set getrlimit setrlimit prlimit64 getrusage times getcpu
    capget capset getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid
    setresuid setresgid setgroups setfsuid setfsgid seccomp restart_syscall set_thread_area get_thread_area
    landlock_create_ruleset landlock_add_rule landlock_restrict_self ptrace process_vm_readv process_vm_writev
"""
_SIGNALS_AND_TIME = """
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_tgsigqueueinfo sigaltstack signalfd signalfd4 pause alarm getitimer setitimer
    nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time timer_create timer_delete timer_getoverrun
    timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime adjtimex
"""
_WAITING_AND_PIPES = """
    poll ppoll select pselect6 _newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old
    epoll_pwait epoll_pwait2 eventfd eventfd2 pipe pipe2
    io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy
"""
_SOCKETS = """
    socketpair bind connect listen accept accept4 getsockname getpeername getsockopt send sendto sendmsg
    sendmmsg recv recvfrom recvmsg recvmmsg shutdown socketcall
"""
_IPC_AND_SYSTEM = """
    mq_open mq_close mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr msgget msgsnd msgrcv msgctl
    semget semop semctl semtimedop shmget shmat shmdt shmctl ipc uname sysinfo getrandom
"""
ALLOWED: tuple[str, ...] = tuple(
    sorted(
        " ".join(
            (
                _FILES,
                _MEMORY,
                _PROCESSES,
                _SIGNALS_AND_TIME,
                _WAITING_AND_PIPES,
                _SOCKETS,
                _IPC_AND_SYSTEM,
            )
        ).split()
    )
)

REFUSED: tuple[str, ...] = tuple(
    sorted(
        """
    acct add_key bpf clock_adjtime clock_settime create_module delete_module fanotify_init fanotify_mark
    finit_module fsconfig fsmount fsopen fspick get_kernel_syms init_module io_uring_enter io_uring_register
    io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mount mount_setattr move_mount
    move_pages migrate_pages modify_ldt nfsservctl open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root
    query_module quotactl quotactl_fd reboot request_key setdomainname sethostname setns settimeofday swapoff swapon
    sysfs syslog umount umount2 unshare uselib userfaultfd vhangup vserver
""".split()
    )
)

# CLONE_NEWTIME, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWNS: no new namespaces inside.
_NAMESPACE_FLAGS = 0x7E020080
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_NETLINK_ROUTE = 0
# Typing into one's own terminal: what a program leaves there, whoever had it run reads as if he had typed it himself.
_TIOCSTI = 0x5412
# A socket that lingers holds up whoever closes it last, and may be sent to the server to do that.
_SOL_SOCKET, _SO_LINGER = 1, 13
# The kernel looks at no more of these numbers than this: a filter that looked at all of one could be fooled.
_NUMBER_BITS = 32
_WHOLE_NUMBER = 0xFFFFFFFF
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


def render_seccomp(machine: str | None = None, *, may_linger: bool = True) -> dict[str, Any]:
    """The OCI `linux.seccomp` object for this machine's architecture.

    Without `may_linger` it does nothing to tell a socket to linger when it is closed; nobody is told.
    """
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.ENOSYS,
        "architectures": [_ARCHITECTURES[machine or platform.machine()]],
        "syscalls": [
            _allow(ALLOWED),
            _refuse(REFUSED),
            _allow(["clone"], _compare(0, "SCMP_CMP_MASKED_EQ", _NAMESPACE_FLAGS, 0)),
            *(
                _allow(["socket"], _compare(0, "SCMP_CMP_EQ", family))
                for family in (_AF_UNIX, _AF_INET, _AF_INET6)
            ),
            # Route queries (interface lists) and no other netlink: its packet filter code is a favourite way in.
            _allow(
                ["socket"],
                _compare(0, "SCMP_CMP_EQ", _AF_NETLINK),
                _compare(2, "SCMP_CMP_EQ", _NETLINK_ROUTE),
            ),
            _refuse(["ioctl"], _is(1, _TIOCSTI)),
            *_allow_all_but("ioctl", 1, _TIOCSTI),
            *([_allow(["setsockopt"])] if may_linger else _allow_all_options_but_lingering()),
            *(
                _allow(["personality"], _compare(0, "SCMP_CMP_EQ", value))
                for value in _PERSONALITIES
            ),
        ],
    }


def _allow_all_options_but_lingering() -> list[dict[str, Any]]:
    """As some programs end where an option fails, this one appears to be set."""
    lingering = [_is(1, _SOL_SOCKET), _is(2, _SO_LINGER)]
    return [
        {"names": ["setsockopt"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0, "args": lingering},
        *_allow_all_but("setsockopt", 1, _SOL_SOCKET),
        *_allow_all_but("setsockopt", 2, _SO_LINGER),
    ]


def _allow_all_but(name: str, index: int, value: int) -> list[dict[str, Any]]:
    """An allow list cannot say "all but one", but it can say in which bit a number differs from that one."""
    bits = (1 << number for number in range(_NUMBER_BITS))
    return [
        _allow([name], _compare(index, "SCMP_CMP_MASKED_EQ", bit, ~value & bit)) for bit in bits
    ]


def _is(index: int, value: int) -> dict[str, Any]:
    return _compare(index, "SCMP_CMP_MASKED_EQ", _WHOLE_NUMBER, value)


def _allow(names: list[str] | tuple[str, ...], *conditions: dict[str, Any]) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", "args": list(conditions)}


def _refuse(names: list[str] | tuple[str, ...], *conditions: dict[str, Any]) -> dict[str, Any]:
    action = {"action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM}
    return {"names": list(names), **action, "args": list(conditions)}


def _compare(index: int, op: str, value: int, value_two: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": value_two, "op": op}
