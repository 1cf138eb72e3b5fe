// SPDX-License-Identifier: Apache-2.0
//! What processes write: from their pipes into frames, or, when nobody reads, into nothing.
//!
//! A later generation keeps a journal here instead of the `Drainer`: whoever is given an `Output`
//! owns the pipe and its count of bytes, and nothing else reads them.

use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::connection::Connection;
use crate::error::{errno, Error, Result};
use crate::frame::{Header, Kind, HEADER_BYTES, MAX_DATA_BYTES};
use crate::message::Record;
use crate::server::THREAD_STACK_BYTES;
use crate::sys_unsafe::{
    held_bytes, new_eventfd, poll_fds, read_bytes, set_pipe_size, write_bytes, PollFd, POLLHUP,
    POLLIN,
};

/// The first read of a pipe; each full one makes the next larger.
const FIRST_READ_BYTES: usize = 4 << 10;
const READ_GROWTH: usize = 8;
/// A frame that a unix socket takes at once (Linux: 208 KiB less its own bookkeeping). A larger one
/// goes in two pieces, with two waits.
const LARGEST_READ_BYTES: usize = 200 << 10;
/// For a process that fills its pipe. The kernel may refuse, then it keeps its 64 KiB.
const BUSY_PIPE_BYTES: i32 = 1 << 20;
const DISCARD_BYTES: usize = 64 << 10;

/// One output pipe of a process.
pub struct Output {
    pipe: Option<OwnedFd>,
    kind: Kind,
    bytes: u64,
    read_bytes: usize,
}

impl Output {
    pub fn new(pipe: OwnedFd, kind: Kind) -> Output {
        Output { pipe: Some(pipe), kind, bytes: 0, read_bytes: FIRST_READ_BYTES }
    }

    /// For `poll`: -1 once all writers are gone.
    pub fn fd(&self) -> RawFd {
        self.pipe.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// How much has been read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads once; true if the pipe probably holds more. It must not block.
    pub fn read(&mut self, outbox: &mut Outbox) -> Result<bool> {
        let wanted = self.read_bytes;
        let count = match self.read_frame(outbox, wanted) {
            Err(Error::System(errno::EAGAIN)) => 0,
            other => other?,
        };
        if count == wanted && wanted < LARGEST_READ_BYTES {
            self.read_more_at_once();
        }
        Ok(count > wanted / 2)
    }

    /// Reads what the pipe holds at this moment, and no more: who else writes to it may never stop.
    pub fn read_held(&mut self, outbox: &mut Outbox) -> Result<()> {
        let mut held = match &self.pipe {
            Some(pipe) => held_bytes(pipe)?,
            None => 0,
        };
        while held > 0 && self.pipe.is_some() {
            held -= self.read_frame(outbox, held.min(MAX_DATA_BYTES))?;
        }
        Ok(())
    }

    /// The pipe, if somebody can still write to it.
    pub fn into_open_pipe(self) -> Option<OwnedFd> {
        let mut fds = [PollFd { fd: self.fd(), events: POLLIN, revents: 0 }];
        let _ = poll_fds(&mut fds, 0);
        self.pipe.filter(|_| fds[0].revents & POLLHUP == 0)
    }

    /// Returns the size of the frame; at the end of the stream closes the pipe and returns 0.
    fn read_frame(&mut self, outbox: &mut Outbox, wanted: usize) -> Result<usize> {
        let pipe = match &self.pipe {
            Some(pipe) => pipe,
            None => return Ok(0),
        };
        let room = outbox.room(HEADER_BYTES + wanted);
        let (header, payload) = room.split_at_mut(HEADER_BYTES);
        let length = match read_bytes(pipe, payload).map_err(Error::from) {
            Err(Error::System(errno::EINTR)) => return Ok(0),
            other => other?,
        };
        if length == 0 {
            self.pipe = None;
            return Ok(0);
        }
        header.copy_from_slice(&Header { length, kind: self.kind, offset: self.bytes }.encode());
        outbox.filled(HEADER_BYTES + length);
        self.bytes += length as u64;
        Ok(length)
    }

    fn read_more_at_once(&mut self) {
        self.read_bytes = (self.read_bytes * READ_GROWTH).min(LARGEST_READ_BYTES);
        if let (Some(pipe), LARGEST_READ_BYTES) = (&self.pipe, self.read_bytes) {
            let _ = set_pipe_size(pipe, BUSY_PIPE_BYTES);
        }
    }
}

/// Frames on their way to a client. Bounded by its callers, who add only to an empty one, and at
/// the end of a process what two pipes hold.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn push(&mut self, record: Record) {
        let payload = record.finish();
        let header = Header { length: payload.len(), kind: Kind::Control, offset: 0 };
        let room = self.room(HEADER_BYTES + payload.len());
        room[..HEADER_BYTES].copy_from_slice(&header.encode());
        room[HEADER_BYTES..].copy_from_slice(&payload);
        self.filled(HEADER_BYTES + payload.len());
    }

    pub fn send_nowait(&mut self, connection: &mut Connection) -> Result<()> {
        if !self.is_empty() {
            self.start += connection.send_nowait(&self.bytes[self.start..self.end])?;
        }
        Ok(())
    }

    pub fn send(&mut self, connection: &mut Connection) -> Result<()> {
        connection.send(&self.bytes[self.start..self.end])?;
        self.start = self.end;
        Ok(())
    }

    fn room(&mut self, wanted: usize) -> &mut [u8] {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        if self.bytes.len() < self.end + wanted {
            self.bytes.resize(self.end + wanted, 0);
        }
        &mut self.bytes[self.end..self.end + wanted]
    }

    fn filled(&mut self, count: usize) {
        self.end += count;
    }
}

/// Reads and discards what nobody wants, so that whoever still writes never sees a full or a
/// broken pipe. One thread for all of them, which lives while there are any.
#[derive(Default)]
pub struct Drainer {
    state: Mutex<DrainerState>,
}

#[derive(Default)]
struct DrainerState {
    arrived: Vec<OwnedFd>,
    /// Set while the thread lives.
    wake: Option<Arc<OwnedFd>>,
}

impl Drainer {
    pub fn adopt(self: &Arc<Self>, outputs: [Output; 2]) {
        let open: Vec<_> = outputs.into_iter().filter_map(Output::into_open_pipe).collect();
        if open.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.arrived.extend(open);
        match &state.wake {
            Some(wake) => {
                // The counter can hardly overflow; if it did, the thread would be awake anyway.
                let _ = write_bytes(&**wake, &1u64.to_ne_bytes());
            }
            // Without a thread the pipes wait, unread but unbroken, for the next one.
            None => state.wake = self.start_thread().ok(),
        }
    }

    fn start_thread(self: &Arc<Self>) -> Result<Arc<OwnedFd>> {
        let wake = Arc::new(new_eventfd()?);
        let (drainer, thread_wake) = (Arc::clone(self), Arc::clone(&wake));
        let builder = thread::Builder::new().stack_size(THREAD_STACK_BYTES);
        builder.spawn(move || drainer.run(&thread_wake))?;
        Ok(wake)
    }

    fn run(&self, wake: &OwnedFd) {
        let mut pipes: Vec<OwnedFd> = Vec::new();
        let mut buffer = vec![0; DISCARD_BYTES];
        loop {
            if !self.take_arrived(&mut pipes) {
                return;
            }
            let ready = wait_ready(wake, &pipes, &mut buffer);
            let mut ready = ready.into_iter();
            pipes.retain(|pipe| !ready.next().unwrap_or(false) || discard(pipe, &mut buffer));
        }
    }

    /// False when there is nothing to do any more; the thread must then end.
    fn take_arrived(&self, pipes: &mut Vec<OwnedFd>) -> bool {
        let mut state = self.lock();
        pipes.append(&mut state.arrived);
        if pipes.is_empty() {
            state.wake = None;
        }
        !pipes.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, DrainerState> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sleeps until a pipe or the waker is ready; says which pipes are.
fn wait_ready(wake: &OwnedFd, pipes: &[OwnedFd], buffer: &mut [u8]) -> Vec<bool> {
    let all = pipes.iter().chain(std::iter::once(wake));
    let mut fds: Vec<PollFd> =
        all.map(|fd| PollFd { fd: fd.as_raw_fd(), events: POLLIN, revents: 0 }).collect();
    // Interrupted or not, `revents` says what is ready.
    let _ = poll_fds(&mut fds, -1);
    if fds.pop().map_or(false, |waker| waker.revents != 0) {
        let _ = read_bytes(wake, &mut buffer[..8]);
    }
    fds.iter().map(|fd| fd.revents != 0).collect()
}

/// False at the end of the pipe.
fn discard(pipe: &OwnedFd, buffer: &mut [u8]) -> bool {
    !matches!(read_bytes(pipe, buffer), Ok(0))
}
