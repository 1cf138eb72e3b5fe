// SPDX-License-Identifier: Apache-2.0
//! One client connection: frames in, frames out. Knows no operation.

use std::io;
use std::os::unix::io::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::error::{errno, Error, Result};
use crate::frame::{push_frame, Header, Kind, HEADER_BYTES, MAX_DATA_BYTES};
use crate::gift_unsafe::recv_gift;
use crate::message::{error_record, Fields, Record};
use crate::sys_unsafe::{
    poll_fds, recv_bytes, send_bytes, PollFd, MSG_DONTWAIT, POLLERR, POLLHUP, POLLIN,
};

/// How long a new connection may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// Enough for almost every request; it grows to one frame when a larger one is announced.
const FIRST_INBOX_BYTES: usize = 4096;
/// What is asked of the kernel at once while content streams.
const BULK_INBOX_BYTES: usize = HEADER_BYTES + MAX_DATA_BYTES;

pub struct Connection {
    stream: UnixStream,
    inbox: Vec<u8>,
    start: usize,
    end: usize,
}

/// A frame still in the inbox.
pub struct Frame<'a> {
    pub kind: Kind,
    pub offset: u64,
    pub payload: &'a [u8],
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl Connection {
    pub fn new(stream: UnixStream) -> Connection {
        Connection { stream, inbox: vec![0; FIRST_INBOX_BYTES], start: 0, end: 0 }
    }

    /// The request, which must come whole within `REQUEST_TIME`. If it brings a socket, all that follows, in both
    /// directions, is on that one.
    pub fn receive_request(&mut self) -> Result<Fields> {
        let until = Instant::now() + REQUEST_TIME;
        let mut gift = None;
        while !self.has_frame()? {
            self.wait_readable(until)?;
            self.fill_by(|stream, room| {
                let (count, socket) = recv_gift(stream, room)?;
                gift = socket.or_else(|| gift.take());
                Ok(count)
            })?;
        }
        if let Some(socket) = gift {
            self.stream = UnixStream::from(socket);
        }
        match self.buffered_frame()? {
            Some(frame) if frame.kind == Kind::Control => Fields::decode(frame.payload),
            _ => Err(Error::Invalid("the first frame is not a control frame")),
        }
    }

    /// The next frame, however long it takes; `Error::Closed` at the end of the stream.
    pub fn receive(&mut self) -> Result<Frame<'_>> {
        while !self.has_frame()? {
            self.fill(0)?;
        }
        // `has_frame` has just said that there is one.
        self.buffered_frame()?.ok_or(Error::Closed)
    }

    /// Reads what has arrived without waiting; false if that is nothing.
    pub fn fill_nowait(&mut self) -> Result<bool> {
        match self.fill(MSG_DONTWAIT) {
            Ok(()) => Ok(true),
            Err(Error::System(errno::EAGAIN)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the next frame out of the inbox, if it is there whole.
    pub fn buffered_frame(&mut self) -> Result<Option<Frame<'_>>> {
        let header = match self.header()? {
            Some(header) if self.end - self.start >= HEADER_BYTES + header.length => header,
            _ => return Ok(None),
        };
        let payload_start = self.start + HEADER_BYTES;
        self.start = payload_start + header.length;
        let payload = &self.inbox[payload_start..self.start];
        Ok(Some(Frame { kind: header.kind, offset: header.offset, payload }))
    }

    /// The bare stream and what has been read of it: from here on there are no frames.
    pub fn detach(&mut self) -> Result<(UnixStream, Vec<u8>)> {
        let stream = self.stream.try_clone()?;
        let unread = self.inbox[self.start..self.end].to_vec();
        self.start = self.end;
        Ok((stream, unread))
    }

    /// Lets the inbox grow so that content arrives in few large reads.
    pub fn expect_bulk(&mut self) {
        self.make_room(BULK_INBOX_BYTES);
    }

    pub fn send_record(&mut self, record: Record) -> Result<()> {
        let mut bytes = Vec::with_capacity(256);
        push_frame(&mut bytes, Kind::Control, 0, &record.finish());
        self.send(&bytes)
    }

    /// Tells the client what went wrong; whether it hears it no longer matters.
    pub fn send_error(&mut self, error: Error) {
        if error != Error::Closed {
            let _ = self.send_record(error_record(error));
        }
    }

    /// Sends whole frames, waiting for a slow client.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let sent = self.send_some(bytes, 0)?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// Sends what fits now, possibly nothing.
    pub fn send_nowait(&mut self, bytes: &[u8]) -> Result<usize> {
        match self.send_some(bytes, MSG_DONTWAIT) {
            Err(Error::System(errno::EAGAIN)) => Ok(0),
            other => other,
        }
    }

    /// Whether the client has closed the connection altogether. Long work without frames asks.
    pub fn is_gone(&self) -> bool {
        let mut fds = [PollFd { fd: self.as_raw_fd(), events: 0, revents: 0 }];
        let _ = poll_fds(&mut fds, 0);
        fds[0].revents & (POLLHUP | POLLERR) != 0
    }

    fn has_frame(&self) -> Result<bool> {
        let needed = self.header()?.map(|header| HEADER_BYTES + header.length);
        Ok(needed.map_or(false, |needed| self.end - self.start >= needed))
    }

    /// The header at the front of the inbox, checked; none while it is incomplete.
    fn header(&self) -> Result<Option<Header>> {
        let bytes = &self.inbox[self.start..self.end];
        match bytes.get(..HEADER_BYTES).map(<[u8; HEADER_BYTES]>::try_from) {
            Some(Ok(bytes)) => Header::decode(&bytes).map(Some),
            _ => Ok(None),
        }
    }

    /// Waits for and reads at least one byte.
    fn fill(&mut self, flags: i32) -> Result<()> {
        self.fill_by(|stream, room| recv_bytes(stream, room, flags))
    }

    fn fill_by(
        &mut self,
        mut receive: impl FnMut(&UnixStream, &mut [u8]) -> io::Result<usize>,
    ) -> Result<()> {
        let needed = self.header()?.map_or(HEADER_BYTES, |header| HEADER_BYTES + header.length);
        self.make_room(needed);
        loop {
            let received = receive(&self.stream, &mut self.inbox[self.end..]);
            match received.map_err(Error::from) {
                Ok(0) => return Err(Error::Closed),
                Ok(count) => {
                    self.end += count;
                    return Ok(());
                }
                Err(Error::System(errno::EINTR)) => {}
                Err(error) => return Err(closed_or(error)),
            }
        }
    }

    /// Makes the free part behind the unread bytes large enough for `needed` of them in all.
    fn make_room(&mut self, needed: usize) {
        let unread = self.end - self.start;
        if unread == 0 {
            (self.start, self.end) = (0, 0);
        }
        if self.start + needed <= self.inbox.len() && self.end < self.inbox.len() {
            return;
        }
        if needed > self.inbox.len() {
            // Fresh zeroed pages cost nothing until bytes arrive in them.
            let mut larger = vec![0; needed];
            larger[..unread].copy_from_slice(&self.inbox[self.start..self.end]);
            self.inbox = larger;
        } else {
            self.inbox.copy_within(self.start..self.end, 0);
        }
        self.start = 0;
        self.end = unread;
    }

    fn wait_readable(&self, until: Instant) -> Result<()> {
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        let mut fds = [PollFd { fd: self.as_raw_fd(), events: POLLIN, revents: 0 }];
        match poll_fds(&mut fds, i32::try_from(left).unwrap_or(i32::MAX)) {
            Ok(0) => Err(Error::Limit("the request took too long")),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn send_some(&mut self, bytes: &[u8], flags: i32) -> Result<usize> {
        loop {
            match send_bytes(&self.stream, bytes, flags).map_err(Error::from) {
                Err(Error::System(errno::EINTR)) => {}
                other => return other.map_err(closed_or),
            }
        }
    }
}

fn closed_or(error: Error) -> Error {
    match error {
        Error::System(errno::EPIPE) | Error::System(errno::ECONNRESET) => Error::Closed,
        other => other,
    }
}
