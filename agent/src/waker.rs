// SPDX-License-Identifier: Apache-2.0
//! Wakes a thread that sleeps in `poll`.

use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::connection::Connection;
use crate::error::{errno, Error, Result};
use crate::sys_unsafe::{
    new_eventfd, poll_fds, read_bytes, write_bytes, PollFd, POLLERR, POLLHUP, POLLIN,
};

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

    /// Sleeps until it is woken, or for no reason, for as long as there is a client.
    pub fn sleep_beside(&self, client: &Connection) -> Result<()> {
        let entry = |fd, events| PollFd { fd, events, revents: 0 };
        // Of the client only its end is of interest, which comes unasked.
        let mut fds = [entry(client.as_raw_fd(), 0), entry(self.as_raw_fd(), POLLIN)];
        match poll_fds(&mut fds, -1).map_err(Error::from) {
            Ok(_) | Err(Error::System(errno::EINTR)) => {}
            Err(error) => return Err(error),
        }
        if fds[0].revents & (POLLHUP | POLLERR) != 0 {
            return Err(Error::Closed);
        }
        if fds[1].revents != 0 {
            self.clear();
        }
        Ok(())
    }

    /// Only when it is readable, and only by the thread that sleeps.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // What was counted does not matter.
        let _ = read_bytes(&*self.0, &mut count);
    }
}
