// SPDX-License-Identifier: Apache-2.0
//! Wakes a thread that sleeps in `poll`.

use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::error::Result;
use crate::sys_unsafe::{new_eventfd, read_bytes, write_bytes};

#[derive(Clone)]
pub struct Waker(Arc<OwnedFd>);

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Waker {
    pub fn new() -> Result<Waker> {
        Ok(Waker(Arc::new(new_eventfd()?)))
    }

    pub fn wake(&self) {
        // The counter can hardly overflow; if it did, the sleeper would be awake anyway.
        let _ = write_bytes(&*self.0, &1u64.to_ne_bytes());
    }

    /// Only when it is readable, and only by the thread that sleeps.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // What was counted does not matter.
        let _ = read_bytes(&*self.0, &mut count);
    }
}
