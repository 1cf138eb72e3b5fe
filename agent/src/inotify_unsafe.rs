// SPDX-License-Identifier: Apache-2.0
//! The kernel's inotify, behind safe functions. What its events mean is read in `watches/events.rs`.

use std::io;
use std::os::raw::{c_char, c_int};
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};

use crate::error::Result;
use crate::file_unsafe::{O_CLOEXEC, O_NONBLOCK};
use crate::path::c_string;
use crate::sys_unsafe::{check, held_bytes, own, read_bytes};

pub const MODIFY: u32 = 0x2;
pub const ATTRIB: u32 = 0x4;
pub const MOVED_FROM: u32 = 0x40;
pub const MOVED_TO: u32 = 0x80;
pub const CREATE: u32 = 0x100;
pub const DELETE: u32 = 0x200;
pub const DELETE_SELF: u32 = 0x400;
pub const MOVE_SELF: u32 = 0x800;
/// These come unasked.
pub const UNMOUNT: u32 = 0x2000;
pub const QUEUE_OVERFLOW: u32 = 0x4000;
pub const IGNORED: u32 = 0x8000;
pub const IS_DIRECTORY: u32 = 0x4000_0000;

const ONLY_DIRECTORIES: u32 = 0x0100_0000;
/// A file that is written after it was removed is not told under the name it had.
const EXCEPT_UNLINKED: u32 = 0x0400_0000;

extern "C" {
    fn inotify_init1(flags: c_int) -> c_int;
    fn inotify_add_watch(fd: c_int, path: *const c_char, mask: u32) -> c_int;
    fn inotify_rm_watch(fd: c_int, wd: c_int) -> c_int;
}

/// A queue of events, never waited for. Closing it frees all of its watches.
pub struct Inotify(OwnedFd);

impl AsRawFd for Inotify {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Inotify {
    pub fn new() -> io::Result<Inotify> {
        // SAFETY: takes an integer only.
        own(unsafe { inotify_init1(O_NONBLOCK | O_CLOEXEC) }).map(Inotify)
    }

    /// Watches an open directory. The same one again is the same descriptor.
    ///
    /// By its own descriptor: a path may lead elsewhere by now, and gVisor follows a link in spite of
    /// IN_DONT_FOLLOW where it stands together with IN_ONLYDIR.
    pub fn add(&self, directory: &impl AsRawFd, mask: u32) -> Result<i32> {
        let path = c_string(format!("/proc/self/fd/{}", directory.as_raw_fd()).as_bytes())?;
        let mask = mask | ONLY_DIRECTORIES | EXCEPT_UNLINKED;
        // SAFETY: `path` ends in NUL and lives through the call.
        Ok(check(unsafe { inotify_add_watch(self.as_raw_fd(), path.as_ptr(), mask) })?)
    }

    /// One that the kernel has dropped already is no error.
    pub fn remove(&self, wd: i32) {
        // SAFETY: takes integers only.
        unsafe { inotify_rm_watch(self.as_raw_fd(), wd) };
    }

    /// Whole events; EAGAIN where there is none.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        read_bytes(&self.0, buffer)
    }

    /// How many bytes of events are queued.
    pub fn held_bytes(&self) -> io::Result<usize> {
        held_bytes(&self.0)
    }
}
