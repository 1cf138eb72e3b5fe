// SPDX-License-Identifier: Apache-2.0
//! One connection to a port: bytes from the client to the program and back, each way on its own, with
//! its own end. Never waits.

use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};

use crate::epoll_unsafe::{EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT};
use crate::error::{errno, is_errno};
use crate::sys_unsafe::{end_sending, recv_bytes, send_bytes, MSG_DONTWAIT};

/// Which end is which; the way *from* an end has the same number.
pub const CLIENT: usize = 0;
pub const PROGRAM: usize = 1;
/// Before other connections get their turn.
const READS: usize = 4;

pub struct Link {
    ends: [End; 2],
    ways: [Way; 2],
}

struct End {
    fd: OwnedFd,
    /// It neither takes nor will send any more; what it has sent can still be read.
    is_gone: bool,
}

/// From one end to the other.
#[derive(Default)]
struct Way {
    /// What the other end has not taken yet. Empty nearly always, so that idle connections cost nothing.
    held: Vec<u8>,
    /// Nothing more comes in.
    has_ended: bool,
    /// And nothing more goes out, which the other end knows.
    is_over: bool,
}

impl Link {
    /// `early` is what the client has sent already.
    pub fn new(client: OwnedFd, program: OwnedFd, early: Vec<u8>) -> Link {
        let ends = [client, program].map(|fd| End { fd, is_gone: false });
        let mut ways = [Way::default(), Way::default()];
        ways[CLIENT].held = early;
        // At once, where it fits: who asks a question with the wish to connect waits for one thread less.
        ways[CLIENT].flush(&ends[PROGRAM].fd);
        Link { ends, ways }
    }

    pub fn fd(&self, end: usize) -> RawFd {
        self.ends[end].fd.as_raw_fd()
    }

    pub fn is_gone(&self, end: usize) -> bool {
        self.ends[end].is_gone
    }

    pub fn is_over(&self) -> bool {
        self.ways.iter().all(|way| way.is_over)
    }

    /// What to wait for at an end that is not gone.
    pub fn wants(&self, end: usize) -> u32 {
        let (from, into) = (&self.ways[end], &self.ways[1 - end]);
        let reads = !from.has_ended && from.held.is_empty();
        // Of an end that is gone nothing is heard: this end's room is what its last bytes wait for.
        let writes = !into.is_over && (!into.held.is_empty() || self.ends[1 - end].is_gone);
        (if reads { EPOLLIN } else { 0 }) | (if writes { EPOLLOUT } else { 0 })
    }

    /// Moves what can be moved after `events` at `end`.
    pub fn turn(&mut self, end: usize, events: u32, scratch: &mut [u8]) {
        if events & (EPOLLHUP | EPOLLERR) != 0 {
            self.ends[end].is_gone = true;
            self.ways[1 - end].abandon();
        }
        self.pump(CLIENT, scratch);
        self.pump(PROGRAM, scratch);
    }

    fn pump(&mut self, from: usize, scratch: &mut [u8]) {
        let (source, target) = (&self.ends[from].fd, &self.ends[1 - from].fd);
        let way = &mut self.ways[from];
        for _ in 0..READS {
            way.flush(target);
            if way.is_over || !way.held.is_empty() {
                return;
            }
            let received = recv_bytes(source, scratch, MSG_DONTWAIT);
            match received {
                Ok(count) if count > 0 => way.send(target, &scratch[..count]),
                _ if is_errno(&received, errno::EAGAIN) => return,
                _ if is_errno(&received, errno::EINTR) => {}
                // A connection that broke has ended, too: there is no other way to tell.
                _ => way.has_ended = true,
            }
        }
        way.flush(target);
    }
}

impl Way {
    fn send(&mut self, target: &OwnedFd, bytes: &[u8]) {
        let sent = self.offer(target, bytes);
        if !self.is_over {
            self.held.extend_from_slice(&bytes[sent..]);
        }
    }

    /// Sends what is held, and the end once that is all.
    fn flush(&mut self, target: &OwnedFd) {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.send(target, &held);
        }
        if self.has_ended && self.held.is_empty() && !self.is_over {
            self.is_over = true;
            // It may be gone, and then knows.
            let _ = end_sending(target);
        }
    }

    /// How much the target has taken.
    fn offer(&mut self, target: &OwnedFd, bytes: &[u8]) -> usize {
        loop {
            let sent = send_bytes(target, bytes, MSG_DONTWAIT);
            match sent {
                Ok(count) => return count,
                _ if is_errno(&sent, errno::EAGAIN) => return 0,
                _ if is_errno(&sent, errno::EINTR) => {}
                Err(_) => {
                    self.abandon();
                    return 0;
                }
            }
        }
    }

    /// The target takes nothing any more.
    fn abandon(&mut self) {
        self.held = Vec::new();
        self.has_ended = true;
        self.is_over = true;
    }
}
