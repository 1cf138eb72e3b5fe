// SPDX-License-Identifier: Apache-2.0
//! The system calls that `std` lacks, each behind a safe function. With `spawn_unsafe.rs` the only
//! place with `unsafe`. The prototypes are glibc's for 64-bit Linux.

use std::io;
use std::mem::{size_of, MaybeUninit};
use std::os::raw::{c_int, c_long, c_uint, c_ulong, c_void};
use std::os::unix::io::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::file_unsafe::{O_CLOEXEC, O_NONBLOCK};

pub const POLLIN: i16 = 0x1;
pub const POLLOUT: i16 = 0x4;
pub const POLLERR: i16 = 0x8;
pub const POLLHUP: i16 = 0x10;

pub const MSG_DONTWAIT: c_int = 0x40;
const MSG_NOSIGNAL: c_int = 0x4000;

pub const SIGHUP: c_int = 1;
pub const SIGINT: c_int = 2;
pub const SIGKILL: c_int = 9;
pub const SIGPIPE: c_int = 13;
pub const SIGTERM: c_int = 15;
pub const SIGCHLD: c_int = 17;
pub const SIGCONT: c_int = 18;
pub const SIGSTOP: c_int = 19;
pub const SIGWINCH: c_int = 28;
pub const LAST_SIGNAL: c_int = 64;

const SHUT_WR: c_int = 1;
const F_SETFL: c_int = 4;
const F_GETFL: c_int = 3;
const F_SETPIPE_SZ: c_int = 1031;
const FIONREAD: c_ulong = 0x541b;
const SIG_SETMASK: c_int = 2;
const RLIMIT_NOFILE: c_int = 7;
const PR_SET_CHILD_SUBREAPER: c_int = 36;
const PR_SET_DUMPABLE: c_int = 4;
const WNOHANG: c_int = 1;
const WUNTRACED: c_int = 2;
const WAIT_ALL_KINDS: c_int = 0x4000_0000;

#[cfg(target_arch = "x86_64")]
const RT_SIGACTION: c_long = 13;
#[cfg(target_arch = "aarch64")]
const RT_SIGACTION: c_long = 134;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    pub fd: RawFd,
    pub events: i16,
    pub revents: i16,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct SignalSet([u64; 16]);

#[repr(C)]
struct SignalInfo {
    signal: c_int,
    errno: c_int,
    code: c_int,
    padding: c_int,
    pid: c_int,
    rest: [c_int; 27],
}

extern "C" {
    fn __errno_location() -> *mut c_int;
    fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    fn recv(fd: c_int, buffer: *mut c_void, length: usize, flags: c_int) -> isize;
    fn shutdown(fd: c_int, how: c_int) -> c_int;
    fn send(fd: c_int, buffer: *const c_void, length: usize, flags: c_int) -> isize;
    fn read(fd: c_int, buffer: *mut c_void, length: usize) -> isize;
    fn write(fd: c_int, buffer: *const c_void, length: usize) -> isize;
    fn close(fd: c_int) -> c_int;
    fn dup2(from: c_int, to: c_int) -> c_int;
    fn listen(fd: c_int, backlog: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn pipe2(fds: *mut c_int, flags: c_int) -> c_int;
    fn eventfd(value: c_uint, flags: c_int) -> c_int;
    fn umask(mode: c_uint) -> c_uint;
    fn geteuid() -> c_uint;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn wait4(pid: c_int, status: *mut c_int, options: c_int, usage: *mut c_void) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn pthread_sigmask(how: c_int, new: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn sigwaitinfo(set: *const SignalSet, info: *mut SignalInfo) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn getrlimit(resource: c_int, limit: *mut Limit) -> c_int;
    fn setrlimit(resource: c_int, limit: *const Limit) -> c_int;
    fn mallopt(parameter: c_int, value: c_int) -> c_int;
    fn malloc_trim(pad: usize) -> c_int;
}

pub fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

pub fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

pub fn own(result: c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the kernel has just returned this descriptor to us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until one of `fds` is ready; entries whose descriptor is -1 are skipped.
pub fn poll_fds(fds: &mut [PollFd], timeout_ms: c_int) -> io::Result<usize> {
    // SAFETY: pointer and count describe the slice.
    let ready = unsafe { poll(fds.as_mut_ptr(), fds.len() as c_ulong, timeout_ms) };
    check_size(ready as isize)
}

pub fn recv_bytes(fd: &impl AsRawFd, buffer: &mut [u8], flags: c_int) -> io::Result<usize> {
    // SAFETY: pointer and length describe the slice, which the kernel only writes.
    check_size(unsafe { recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) })
}

pub fn send_bytes(fd: &impl AsRawFd, bytes: &[u8], flags: c_int) -> io::Result<usize> {
    let flags = flags | MSG_NOSIGNAL;
    // SAFETY: pointer and length describe the slice, which the kernel only reads.
    check_size(unsafe { send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// The peer reads to the end; it may still send.
pub fn end_sending(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { shutdown(fd.as_raw_fd(), SHUT_WR) }).map(drop)
}

pub fn read_bytes(fd: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe the slice, which the kernel only writes.
    check_size(unsafe { read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

pub fn write_bytes(fd: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe the slice, which the kernel only reads.
    check_size(unsafe { write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
}

pub fn set_backlog(listener: &impl AsRawFd, backlog: c_int) -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { listen(listener.as_raw_fd(), backlog) }).map(drop)
}

/// Sets O_NONBLOCK on this end alone: the two ends of a pipe are separate open files.
pub fn set_nonblocking(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: takes integers only.
    let flags = check(unsafe { fcntl(fd.as_raw_fd(), F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { fcntl(fd.as_raw_fd(), F_SETFL, flags | O_NONBLOCK) }).map(drop)
}

pub fn set_blocking(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: takes integers only.
    let flags = check(unsafe { fcntl(fd.as_raw_fd(), F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { fcntl(fd.as_raw_fd(), F_SETFL, flags & !O_NONBLOCK) }).map(drop)
}

pub fn set_pipe_size(fd: &impl AsRawFd, bytes: c_int) -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { fcntl(fd.as_raw_fd(), F_SETPIPE_SZ, bytes) }).map(drop)
}

/// How many bytes a pipe holds.
pub fn held_bytes(fd: &impl AsRawFd) -> io::Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: FIONREAD writes one int, which `count` is.
    check(unsafe { ioctl(fd.as_raw_fd(), FIONREAD, &mut count as *mut c_int) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// A pipe, (read end, write end).
pub fn new_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [c_int; 2] = [-1; 2];
    // SAFETY: the kernel writes two ints.
    check(unsafe { pipe2(fds.as_mut_ptr(), O_CLOEXEC) })?;
    Ok((own(fds[0])?, own(fds[1])?))
}

pub fn new_eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes integers only; the flag is EFD_CLOEXEC.
    own(unsafe { eventfd(0, O_CLOEXEC) })
}

pub fn set_umask(mode: c_uint) {
    // SAFETY: takes an integer only.
    unsafe { umask(mode) };
}

pub fn effective_uid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { geteuid() }
}

pub fn send_signal(pid: c_int, signal: c_int) -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { kill(pid, signal) }).map(drop)
}

/// One child that has ended or been stopped, (pid, wait status), or none at the moment.
pub fn wait_any() -> io::Result<Option<(c_int, c_int)>> {
    let mut status: c_int = 0;
    let options = WNOHANG | WUNTRACED | WAIT_ALL_KINDS;
    // SAFETY: the kernel writes one int; no usage is asked for.
    let pid = check(unsafe { wait4(-1, &mut status, options, ptr::null_mut()) })?;
    Ok(Some((pid, status)).filter(|(pid, _)| *pid != 0))
}

/// Blocks every signal for this thread and those it makes, and gives each its default disposition.
///
/// What is blocked needs no handler: a write to a closed pipe fails with EPIPE and nothing else
/// happens. Children inherit default dispositions and need only clear the mask before exec.
pub fn take_over_signals() {
    let all = SignalSet([u64::MAX; 16]);
    // SAFETY: the set is as large as glibc's; no old set is asked for.
    unsafe { pthread_sigmask(SIG_SETMASK, &all, ptr::null_mut()) };
    // Asked of the kernel itself: glibc refuses the two signals that it keeps for threads, which our
    // parent may have ignored and our children would inherit.
    let default = [0u64; 4];
    let mask_bytes: usize = 8;
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: all-zero is the kernel's action of 32 bytes for the default disposition, which
        // runs no code of ours. The two signals that cannot be changed are refused, which is fine.
        unsafe { syscall(RT_SIGACTION, signal, default.as_ptr(), ptr::null::<u64>(), mask_bytes) };
    }
}

/// Waits for SIGCHLD, SIGTERM, SIGINT or SIGHUP: (signal, pid of the sender in our namespace or 0).
pub fn wait_signal() -> io::Result<(c_int, c_int)> {
    let mut set = SignalSet([0; 16]);
    for signal in [SIGCHLD, SIGTERM, SIGINT, SIGHUP] {
        set.0[0] |= 1 << (signal - 1);
    }
    let mut info = MaybeUninit::<SignalInfo>::zeroed();
    // SAFETY: both have glibc's sizes (128 bytes each); the kernel writes the second.
    let signal = check(unsafe { sigwaitinfo(&set, info.as_mut_ptr()) })?;
    // SAFETY: all-zero was valid already, and the kernel has filled it.
    Ok((signal, unsafe { info.assume_init() }.pid))
}

pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1 as c_ulong) }).map(drop)
}

/// Keeps every other process, root's included, from tracing us or reading our memory.
pub fn forbid_tracing() -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { prctl(PR_SET_DUMPABLE, 0 as c_ulong) }).map(drop)
}

/// Closes every descriptor above 2. Only for the very start: whoever started us may have left some
/// open, and none of them may reach a process.
pub fn close_inherited_files() -> io::Result<()> {
    let mut inherited: Vec<c_int> = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        inherited.extend(entry?.file_name().to_str().and_then(|name| name.parse::<c_int>().ok()));
    }
    for fd in inherited.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: nothing of ours is open yet. The listing's own descriptor is closed already,
        // which makes this call fail and harms nothing.
        unsafe { close(fd) };
    }
    Ok(())
}

/// Makes the descriptors 0, 1 and 2 copies of `file`.
pub fn replace_standard_streams(file: &impl AsRawFd) -> io::Result<()> {
    for stream in 0..3 {
        // SAFETY: takes integers only; nothing else in this program owns these three.
        check(unsafe { dup2(file.as_raw_fd(), stream) })?;
    }
    Ok(())
}

/// Raises our own limit of open files to the hard one, and returns it.
pub fn raise_file_limit() -> io::Result<Limit> {
    let mut limit = Limit::default();
    // SAFETY: the kernel writes one rlimit.
    check(unsafe { getrlimit(RLIMIT_NOFILE, &mut limit) })?;
    let raised = Limit { soft: limit.hard, hard: limit.hard };
    // SAFETY: the kernel reads one rlimit.
    check(unsafe { setrlimit(RLIMIT_NOFILE, &raised) })?;
    Ok(limit)
}

/// One arena for all threads, and memory given back at once: the agent idles far more than it works.
pub fn tune_allocator() {
    const M_TRIM_THRESHOLD: c_int = -1;
    const M_MMAP_THRESHOLD: c_int = -3;
    const M_ARENA_MAX: c_int = -8;
    for (parameter, value) in
        [(M_ARENA_MAX, 1), (M_TRIM_THRESHOLD, 64 << 10), (M_MMAP_THRESHOLD, 64 << 10)]
    {
        // SAFETY: takes integers only.
        unsafe { mallopt(parameter, value) };
    }
}

/// Gives back the memory between what is in use, after much was let go that was small.
pub fn give_back_memory() {
    // SAFETY: takes an integer only.
    unsafe { malloc_trim(0) };
}

pub fn last_errno() -> c_int {
    // SAFETY: glibc returns a valid pointer to this thread's errno.
    unsafe { *__errno_location() }
}

const _: () = assert!(size_of::<SignalInfo>() == 128);
