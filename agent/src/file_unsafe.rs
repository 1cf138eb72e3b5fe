// SPDX-License-Identifier: Apache-2.0
//! The system calls on files that `std` lacks, most of them relative to an open directory, each
//! behind a safe function.

use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::raw::{c_char, c_int, c_long, c_uint};
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::sys_unsafe::{check, check_size, own};

pub const CWD: RawFd = -100;

pub const O_RDONLY: c_int = 0;
pub const O_WRONLY: c_int = 1;
pub const O_RDWR: c_int = 2;
pub const O_CREAT: c_int = 0o100;
pub const O_EXCL: c_int = 0o200;
pub const O_NOCTTY: c_int = 0o400;
pub const O_APPEND: c_int = 0o2000;
pub const O_NONBLOCK: c_int = 0o4000;
pub const O_CLOEXEC: c_int = 0o2_000_000;
pub const O_PATH: c_int = 0o10_000_000;
// These two are swapped between the architectures.
#[cfg(target_arch = "x86_64")]
pub const O_DIRECTORY: c_int = 0o200_000;
#[cfg(target_arch = "x86_64")]
pub const O_NOFOLLOW: c_int = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub const O_DIRECTORY: c_int = 0o40_000;
#[cfg(target_arch = "aarch64")]
pub const O_NOFOLLOW: c_int = 0o100_000;

/// A file without a name in the directory that is opened.
pub const O_TMPFILE: c_int = 0o20_000_000 | O_DIRECTORY;

pub const AT_SYMLINK_NOFOLLOW: c_int = 0x100;
pub const AT_REMOVEDIR: c_int = 0x200;
pub const AT_EMPTY_PATH: c_int = 0x1000;

const STATX_BASIC_STATS: c_uint = 0x7ff;

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: i64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct StatxTime {
    seconds: i64,
    nanoseconds: u32,
    padding: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    links: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    padding: u16,
    inode: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    accessed: StatxTime,
    born: StatxTime,
    changed: StatxTime,
    modified: StatxTime,
    rdev: [u32; 2],
    dev: [u32; 2],
    spare: [u64; 14],
}

extern "C" {
    fn openat(dir: c_int, path: *const c_char, flags: c_int, ...) -> c_int;
    fn mkdirat(dir: c_int, path: *const c_char, mode: c_uint) -> c_int;
    fn mknodat(dir: c_int, path: *const c_char, mode: c_uint, dev: u64) -> c_int;
    fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int;
    fn renameat(dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char) -> c_int;
    fn linkat(a: c_int, b: *const c_char, c: c_int, d: *const c_char, flags: c_int) -> c_int;
    fn symlinkat(target: *const c_char, dir: c_int, path: *const c_char) -> c_int;
    fn readlinkat(dir: c_int, path: *const c_char, buffer: *mut c_char, size: usize) -> isize;
    fn statx(d: c_int, p: *const c_char, flags: c_int, mask: c_uint, out: *mut Statx) -> c_int;
    fn fchmod(fd: c_int, mode: c_uint) -> c_int;
    fn fchmodat(dir: c_int, path: *const c_char, mode: c_uint, flags: c_int) -> c_int;
    fn fchownat(dir: c_int, path: *const c_char, uid: c_uint, gid: c_uint, flags: c_int) -> c_int;
    fn utimensat(dir: c_int, path: *const c_char, times: *const Time, flags: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
}

#[cfg(target_arch = "x86_64")]
mod number {
    pub const GETDENTS64: i64 = 217;
    pub const COPY_FILE_RANGE: i64 = 326;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const GETDENTS64: i64 = 61;
    pub const COPY_FILE_RANGE: i64 = 285;
}

pub fn open_at(dir: &impl AsRawFd, path: &CStr, flags: c_int, mode: c_uint) -> io::Result<OwnedFd> {
    let flags = flags | O_CLOEXEC | O_NOCTTY;
    // SAFETY: `path` ends in NUL and lives through the call.
    own(unsafe { openat(dir.as_raw_fd(), path.as_ptr(), flags, mode) })
}

pub fn make_directory_at(dir: &impl AsRawFd, path: &CStr, mode: c_uint) -> io::Result<()> {
    // SAFETY: `path` ends in NUL and lives through the call.
    check(unsafe { mkdirat(dir.as_raw_fd(), path.as_ptr(), mode) }).map(drop)
}

pub fn make_node_at(dir: &impl AsRawFd, path: &CStr, mode: u32, dev: u64) -> io::Result<()> {
    // SAFETY: `path` ends in NUL and lives through the call.
    check(unsafe { mknodat(dir.as_raw_fd(), path.as_ptr(), mode, dev) }).map(drop)
}

pub fn unlink_at(dir: &impl AsRawFd, path: &CStr, flags: c_int) -> io::Result<()> {
    // SAFETY: `path` ends in NUL and lives through the call.
    check(unsafe { unlinkat(dir.as_raw_fd(), path.as_ptr(), flags) }).map(drop)
}

pub fn rename_at(
    dir: &impl AsRawFd,
    from: &CStr,
    to_dir: &impl AsRawFd,
    to: &CStr,
) -> io::Result<()> {
    // SAFETY: both paths end in NUL and live through the call.
    let result =
        unsafe { renameat(dir.as_raw_fd(), from.as_ptr(), to_dir.as_raw_fd(), to.as_ptr()) };
    check(result).map(drop)
}

/// Links without following: a link to a symlink is the symlink once more.
pub fn link_at(
    dir: &impl AsRawFd,
    from: &CStr,
    to_dir: &impl AsRawFd,
    to: &CStr,
) -> io::Result<()> {
    // SAFETY: both paths end in NUL and live through the call.
    let result =
        unsafe { linkat(dir.as_raw_fd(), from.as_ptr(), to_dir.as_raw_fd(), to.as_ptr(), 0) };
    check(result).map(drop)
}

pub fn symlink_at(target: &CStr, dir: &impl AsRawFd, path: &CStr) -> io::Result<()> {
    // SAFETY: both paths end in NUL and live through the call.
    check(unsafe { symlinkat(target.as_ptr(), dir.as_raw_fd(), path.as_ptr()) }).map(drop)
}

pub fn read_link_at(dir: &impl AsRawFd, path: &CStr) -> io::Result<Vec<u8>> {
    // The kernel keeps no target longer than a page.
    let mut target = vec![0u8; 4096];
    let buffer: *mut c_char = target.as_mut_ptr().cast();
    // SAFETY: the buffer has the length given; the kernel only writes it.
    let length = unsafe { readlinkat(dir.as_raw_fd(), path.as_ptr(), buffer, target.len()) };
    target.truncate(check_size(length)?);
    target.shrink_to_fit();
    Ok(target)
}

/// What is known of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub inode: u64,
    pub size: u64,
    pub device: (u32, u32),
    pub node: (u32, u32),
    pub modified_seconds: i64,
    pub modified_nanoseconds: u32,
    pub changed: (i64, u32),
}

/// `flags` are `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH`.
pub fn stat_at(dir: &impl AsRawFd, path: &CStr, flags: c_int) -> io::Result<Stat> {
    let mut raw = Statx::default();
    // SAFETY: `path` ends in NUL; `Statx` has the 256 bytes that the kernel writes.
    let result =
        unsafe { statx(dir.as_raw_fd(), path.as_ptr(), flags, STATX_BASIC_STATS, &mut raw) };
    check(result)?;
    Ok(Stat {
        mode: u32::from(raw.mode),
        uid: raw.uid,
        gid: raw.gid,
        inode: raw.inode,
        size: raw.size,
        device: (raw.dev[0], raw.dev[1]),
        node: (raw.rdev[0], raw.rdev[1]),
        modified_seconds: raw.modified.seconds,
        modified_nanoseconds: raw.modified.nanoseconds,
        changed: (raw.changed.seconds, raw.changed.nanoseconds),
    })
}

pub fn change_mode(fd: &impl AsRawFd, mode: c_uint) -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { fchmod(fd.as_raw_fd(), mode) }).map(drop)
}

/// Follows symlinks, as the kernel does here.
pub fn change_mode_at(dir: &impl AsRawFd, path: &CStr, mode: c_uint) -> io::Result<()> {
    // SAFETY: `path` ends in NUL and lives through the call.
    check(unsafe { fchmodat(dir.as_raw_fd(), path.as_ptr(), mode, 0) }).map(drop)
}

/// Acts on a symlink itself.
pub fn change_owner_at(dir: &impl AsRawFd, path: &CStr, uid: u32, gid: u32) -> io::Result<()> {
    let flags = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
    // SAFETY: `path` ends in NUL and lives through the call.
    check(unsafe { fchownat(dir.as_raw_fd(), path.as_ptr(), uid, gid, flags) }).map(drop)
}

/// Sets access and modification time, of a symlink itself.
pub fn set_modified_at(dir: &impl AsRawFd, path: &CStr, time: Time) -> io::Result<()> {
    let times = [time, time];
    // SAFETY: `path` ends in NUL; the kernel reads two times.
    let result =
        unsafe { utimensat(dir.as_raw_fd(), path.as_ptr(), times.as_ptr(), AT_SYMLINK_NOFOLLOW) };
    check(result).map(drop)
}

/// Fills `buffer` with directory records; 0 at the end.
pub fn read_directory(dir: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe the slice, which the kernel only writes.
    let result =
        unsafe { syscall(number::GETDENTS64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Copies within the kernel from and to the current positions.
pub fn copy_range(from: &impl AsRawFd, to: &impl AsRawFd, length: usize) -> io::Result<usize> {
    let none: *mut i64 = ptr::null_mut();
    // SAFETY: null offsets mean the descriptors' own positions; the rest are integers.
    let result = unsafe {
        syscall(
            number::COPY_FILE_RANGE,
            from.as_raw_fd(),
            none,
            to.as_raw_fd(),
            none,
            length,
            0 as c_uint,
        )
    };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

const _: () = assert!(size_of::<Statx>() == 256);
