// SPDX-License-Identifier: Apache-2.0
//! What a process writes: from its pipes, or its terminal, into its journal. Whoever is given an
//! `Output` owns the pipe, and nothing else reads it.

use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};

use crate::error::{errno, Error, Result};
use crate::frame::{Kind, MAX_DATA_BYTES};
use crate::journal::Journal;
use crate::sys_unsafe::{held_bytes, poll_fds, read_bytes, set_pipe_size, PollFd, POLLHUP, POLLIN};

/// The first read of a pipe; each full one makes the next larger, up to a whole frame.
const FIRST_READ_BYTES: usize = 4 << 10;
const READ_GROWTH: usize = 8;
/// For a process that fills its pipe. The kernel may refuse, then it keeps its 64 KiB.
const BUSY_PIPE_BYTES: i32 = 1 << 20;
/// More than a terminal holds. It does not say how much that is, and who else writes to it may
/// never stop.
const TERMINAL_BYTES: usize = 192 << 10;

/// A read of more than this probably leaves something behind.
const BUSY_READ_BYTES: usize = 32 << 10;

/// What one read took. After `Much` there is probably more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Took {
    Nothing,
    Some,
    Much,
}

/// One output of a process.
pub struct Output {
    pipe: Option<OwnedFd>,
    kind: Kind,
    read_bytes: usize,
    is_terminal: bool,
}

impl Output {
    pub fn new(pipe: OwnedFd, kind: Kind) -> Output {
        Output { pipe: Some(pipe), kind, read_bytes: FIRST_READ_BYTES, is_terminal: false }
    }

    /// `master` must not block.
    pub fn of_terminal(master: OwnedFd) -> Output {
        Output { is_terminal: true, ..Output::new(master, Kind::Stdout) }
    }

    pub fn closed(kind: Kind) -> Output {
        Output { pipe: None, kind, read_bytes: 0, is_terminal: false }
    }

    /// For `poll`: -1 once all writers are gone.
    pub fn fd(&self) -> RawFd {
        self.pipe.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    pub fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Reads once without waiting, if the journal has room.
    pub fn read(&mut self, journal: &Journal) -> Result<Took> {
        let wanted = self.read_bytes;
        let (pipe, kind) = (&mut self.pipe, self.kind);
        let count = journal.append(kind, wanted, |room| read_once(pipe, room))?.unwrap_or(0);
        if count == wanted && wanted < MAX_DATA_BYTES {
            self.read_more_at_once();
        }
        Ok(match count {
            0 => Took::Nothing,
            _ if count > BUSY_READ_BYTES => Took::Much,
            _ => Took::Some,
        })
    }

    /// Reads what the pipe holds at this moment, and no more: who else writes to it may never stop.
    pub fn read_held(&mut self, journal: &Journal) -> Result<()> {
        let mut held = match &self.pipe {
            Some(_) if self.is_terminal => TERMINAL_BYTES,
            Some(pipe) => held_bytes(pipe)?,
            None => 0,
        };
        while held > 0 && self.is_open() {
            let (pipe, kind) = (&mut self.pipe, self.kind);
            let count = journal.append_last(kind, held, |room| read_once(pipe, room))?;
            held -= count;
            if count == 0 && self.is_terminal {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads into nothing.
    pub fn discard(&mut self, buffer: &mut [u8]) {
        if read_once(&mut self.pipe, buffer).is_err() {
            self.pipe = None;
        }
    }

    /// Lets go of the pipe if nobody can write to it any more.
    pub fn close_if_over(&mut self) {
        if self.is_open() {
            let mut fds = [PollFd { fd: self.fd(), events: POLLIN, revents: 0 }];
            let _ = poll_fds(&mut fds, 0);
            self.pipe = self.pipe.take().filter(|_| fds[0].revents & POLLHUP == 0);
        }
    }

    fn read_more_at_once(&mut self) {
        self.read_bytes = (self.read_bytes * READ_GROWTH).min(MAX_DATA_BYTES);
        if let (Some(pipe), MAX_DATA_BYTES, false) = (&self.pipe, self.read_bytes, self.is_terminal)
        {
            let _ = set_pipe_size(pipe, BUSY_PIPE_BYTES);
        }
    }
}

/// How much was read; at the end of the stream closes the pipe and returns 0.
fn read_once(pipe: &mut Option<OwnedFd>, buffer: &mut [u8]) -> Result<usize> {
    let open = match pipe {
        Some(open) => open,
        None => return Ok(0),
    };
    match read_bytes(open, buffer).map_err(Error::from) {
        Err(Error::System(errno::EINTR)) | Err(Error::System(errno::EAGAIN)) => Ok(0),
        // A terminal that nobody has open any more says EIO.
        Ok(0) | Err(Error::System(errno::EIO)) => {
            *pipe = None;
            Ok(0)
        }
        other => other,
    }
}
