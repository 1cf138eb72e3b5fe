// SPDX-License-Identifier: Apache-2.0
//! Waiting for one of many descriptors, in time that does not grow with how many there are.

use std::io;
use std::os::raw::c_int;
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::file_unsafe::O_CLOEXEC;
use crate::sys_unsafe::{check, check_size, own};

pub const EPOLLIN: u32 = 0x1;
pub const EPOLLOUT: u32 = 0x4;
pub const EPOLLERR: u32 = 0x8;
pub const EPOLLHUP: u32 = 0x10;

const ADD: c_int = 1;
const REMOVE: c_int = 2;
const CHANGE: c_int = 3;

/// As the kernel has it: without padding on x86-64 alone.
#[repr(C)]
#[cfg_attr(target_arch = "x86_64", repr(packed))]
#[derive(Clone, Copy, Default)]
pub struct Event {
    pub events: u32,
    pub token: u64,
}

extern "C" {
    fn epoll_create1(flags: c_int) -> c_int;
    fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut Event) -> c_int;
    fn epoll_wait(epoll: c_int, events: *mut Event, count: c_int, timeout: c_int) -> c_int;
}

pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: takes an integer only; EPOLL_CLOEXEC is O_CLOEXEC.
        own(unsafe { epoll_create1(O_CLOEXEC) }).map(Epoll)
    }

    pub fn add(&self, fd: RawFd, token: u64, events: u32) -> io::Result<()> {
        self.control(ADD, fd, &mut Event { events, token })
    }

    pub fn change(&self, fd: RawFd, token: u64, events: u32) -> io::Result<()> {
        self.control(CHANGE, fd, &mut Event { events, token })
    }

    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        // SAFETY: the kernel reads no event where one is removed.
        check(unsafe { epoll_ctl(self.0.as_raw_fd(), REMOVE, fd, ptr::null_mut()) }).map(drop)
    }

    /// Waits for what is ready, which then is at the front of `events`; how much that is.
    pub fn wait(&self, events: &mut [Event], timeout_ms: c_int) -> io::Result<usize> {
        let count = c_int::try_from(events.len()).unwrap_or(c_int::MAX);
        // SAFETY: pointer and count describe the slice, which the kernel only writes.
        let ready =
            unsafe { epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), count, timeout_ms) };
        check_size(ready as isize)
    }

    fn control(&self, operation: c_int, fd: RawFd, event: &mut Event) -> io::Result<()> {
        // SAFETY: the kernel reads one event, which lives as long as the call.
        check(unsafe { epoll_ctl(self.0.as_raw_fd(), operation, fd, event) }).map(drop)
    }
}

#[cfg(target_arch = "x86_64")]
const _: () = assert!(std::mem::size_of::<Event>() == 12);
#[cfg(target_arch = "aarch64")]
const _: () = assert!(std::mem::size_of::<Event>() == 16);
