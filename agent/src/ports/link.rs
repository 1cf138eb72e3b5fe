// SPDX-License-Identifier: Apache-2.0
//! One connection to a port: bytes from the client to the program and back, each way on its own, with
//! its own end. Never waits.

use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};

use crate::epoll_unsafe::{EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT};
use crate::error::{errno, is_errno};
use crate::ports::buffers::{Buffers, Held};
use crate::sys_unsafe::{end_sending, recv_bytes, send_bytes, MSG_DONTWAIT};

/// Which end is which; the way *from* an end has the same number.
pub const CLIENT: usize = 0;
pub const PROGRAM: usize = 1;
/// Before other connections get their turn.
const READS: usize = 4;
/// What brings less than this is taken for all there is: asking once more would tell, and costs as much as it did.
const MESSAGE_BYTES: usize = 16 << 10;

pub struct Link {
    ends: [End; 2],
    ways: [Way; 2],
}

struct End {
    fd: OwnedFd,
    /// It neither takes nor will send any more; what it has sent can still be read.
    is_gone: bool,
    /// What the kernel was last asked to wait for.
    awaited: u32,
}

/// From one end to the other.
#[derive(Default)]
struct Way {
    /// What the other end has not taken yet. Nothing nearly always, so that idle connections cost nothing.
    held: Option<Held>,
    /// Nothing more comes in.
    has_ended: bool,
    /// And nothing more goes out, which the other end knows.
    is_over: bool,
}

impl Link {
    /// `early` is what the client has sent already.
    pub fn new(client: OwnedFd, program: OwnedFd, early: Vec<u8>, buffers: &mut Buffers) -> Link {
        let ends = [client, program].map(|fd| End { fd, is_gone: false, awaited: 0 });
        let mut link = Link { ends, ways: [Way::default(), Way::default()] };
        link.ways[CLIENT].held = (!early.is_empty()).then(|| Held::whole(early));
        // At once, where it fits: who asks a question with the wish to connect waits for one thread less.
        link.pump(CLIENT, buffers);
        for end in [CLIENT, PROGRAM] {
            link.ends[end].awaited = link.wants(end);
        }
        link
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
    pub fn awaited(&self, end: usize) -> u32 {
        self.ends[end].awaited
    }

    /// Looks anew at what to wait for. Whether that is something else than before.
    pub fn has_new_wish(&mut self, end: usize) -> bool {
        let before = self.ends[end].awaited;
        self.ends[end].awaited = self.wants(end);
        self.ends[end].awaited != before
    }

    fn wants(&self, end: usize) -> u32 {
        let (from, into) = (&self.ways[end], &self.ways[1 - end]);
        let reads = !from.has_ended && from.held.is_none();
        // Of an end that is gone nothing is heard: this end's room is what its last bytes wait for.
        let writes = !into.is_over && (into.held.is_some() || self.ends[1 - end].is_gone);
        (if reads { EPOLLIN } else { 0 }) | (if writes { EPOLLOUT } else { 0 })
    }

    /// Moves what can be moved after `events` at `end`.
    pub fn turn(&mut self, end: usize, events: u32, buffers: &mut Buffers) {
        if events & (EPOLLHUP | EPOLLERR) != 0 {
            self.ends[end].is_gone = true;
            self.ways[1 - end].abandon();
        }
        if events != EPOLLOUT {
            self.pump(end, buffers);
        }
        if events & EPOLLOUT != 0 {
            self.pump(1 - end, buffers);
        }
    }

    fn pump(&mut self, from: usize, buffers: &mut Buffers) {
        let (source, target) = (&self.ends[from].fd, &self.ends[1 - from].fd);
        let way = &mut self.ways[from];
        for _ in 0..READS {
            way.flush(target, buffers);
            if way.is_over || way.held.is_some() || !way.fill(source, buffers) {
                break;
            }
        }
        way.flush(target, buffers);
    }
}

impl Way {
    /// Reads once. Whether there may be more: of what came in little nothing is left.
    fn fill(&mut self, source: &OwnedFd, buffers: &mut Buffers) -> bool {
        let mut buffer = buffers.take();
        let received = recv_bytes(source, &mut buffer, MSG_DONTWAIT);
        match received {
            Ok(count) if count > 0 => {
                self.held = Some(Held::new(buffer, count));
                return count >= MESSAGE_BYTES;
            }
            _ if is_errno(&received, errno::EAGAIN) || is_errno(&received, errno::EINTR) => {}
            // A connection that broke has ended, too: there is no other way to tell.
            _ => self.has_ended = true,
        }
        buffers.give_back(buffer);
        false
    }

    /// Sends what is held, and the end once that is all.
    fn flush(&mut self, target: &OwnedFd, buffers: &mut Buffers) {
        if let Some(mut held) = self.held.take() {
            held.advance(self.offer(target, held.rest()));
            if held.is_empty() || self.is_over {
                buffers.give_back(held.into_buffer());
            } else {
                self.held = Some(held);
            }
        }
        if self.has_ended && self.held.is_none() && !self.is_over {
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
        self.held = None;
        self.has_ended = true;
        self.is_over = true;
    }
}
