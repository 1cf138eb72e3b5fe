// SPDX-License-Identifier: Apache-2.0
//! Frames on their way to one client, apart from those that go straight from a journal.

use std::os::unix::io::AsRawFd;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::error::Result;
use crate::frame::{Header, Kind, HEADER_BYTES};
use crate::message::Record;
use crate::sys_unsafe::{poll_fds, PollFd, POLLOUT};

/// Bounded by its callers, who add little to one that has not been sent yet.
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

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether a part of it has been sent, and the rest has not.
    pub fn is_on_its_way(&self) -> bool {
        self.start > 0 && !self.is_empty()
    }

    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.filled(bytes.len());
    }

    pub fn push(&mut self, record: Record) {
        let payload = record.finish();
        let header = Header { length: payload.len(), kind: Kind::Control, offset: 0 };
        let room = self.room(HEADER_BYTES + payload.len());
        room[..HEADER_BYTES].copy_from_slice(&header.encode());
        room[HEADER_BYTES..].copy_from_slice(&payload);
        self.filled(HEADER_BYTES + payload.len());
    }

    /// How much the client has taken.
    pub fn send_nowait(&mut self, connection: &mut Connection) -> Result<usize> {
        if self.is_empty() {
            return Ok(0);
        }
        let sent = connection.send_nowait(&self.bytes[self.start..self.end])?;
        self.start += sent;
        Ok(sent)
    }

    /// Sends everything, but does not wait for ever.
    pub fn send_within(&mut self, connection: &mut Connection, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            self.send_nowait(connection)?;
            let left = until.saturating_duration_since(Instant::now()).as_millis();
            if self.is_empty() || left == 0 {
                return Ok(());
            }
            let mut fds = [PollFd { fd: connection.as_raw_fd(), events: POLLOUT, revents: 0 }];
            // Interrupted or not, we try again.
            let _ = poll_fds(&mut fds, i32::try_from(left).unwrap_or(i32::MAX));
        }
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
