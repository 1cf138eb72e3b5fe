// SPDX-License-Identifier: Apache-2.0
//! Streams of `content` frames, in flat memory.

use std::fs::File;
use std::io::{ErrorKind, Read};

use crate::connection::{Connection, Frame};
use crate::error::{Error, Result};
use crate::frame::{Header, Kind, HEADER_BYTES, MAX_DATA_BYTES};

/// The next piece of what the client sends; none at the end, which an empty frame marks.
pub fn receive<'a>(connection: &'a mut Connection, offset: &mut u64) -> Result<Option<&'a [u8]>> {
    let Frame { kind, offset: at, payload } = connection.receive()?;
    if kind != Kind::Content {
        return Err(Error::Invalid("a frame that is not content within content"));
    }
    if at != *offset {
        return Err(Error::Invalid("content offset does not follow"));
    }
    *offset += payload.len() as u64;
    Ok(Some(payload).filter(|payload| !payload.is_empty()))
}

/// Collects bytes into full frames.
pub struct Sender<'a> {
    connection: &'a mut Connection,
    frame: Vec<u8>,
    filled: usize,
    offset: u64,
}

impl<'a> Sender<'a> {
    pub fn new(connection: &'a mut Connection) -> Sender<'a> {
        let frame = vec![0; HEADER_BYTES + MAX_DATA_BYTES];
        Sender { connection, frame, filled: 0, offset: 0 }
    }

    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.room();
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.advance(count)?;
        }
        Ok(())
    }

    /// Sends up to `length` bytes of a file straight from its reads; returns how many there were.
    pub fn push_file(&mut self, file: &mut File, length: u64) -> Result<u64> {
        let mut left = length;
        while left > 0 {
            let room = self.room();
            let wanted = usize::try_from(left).map_or(room.len(), |left| left.min(room.len()));
            match file.read(&mut room[..wanted]) {
                Ok(0) => break,
                Ok(count) => {
                    left -= count as u64;
                    self.advance(count)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(length - left)
    }

    /// Sends what is left, and the empty frame that ends the stream.
    pub fn finish(mut self) -> Result<()> {
        if self.filled > 0 {
            self.flush()?;
        }
        self.flush()
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.frame[HEADER_BYTES + self.filled..]
    }

    fn advance(&mut self, count: usize) -> Result<()> {
        self.filled += count;
        if self.filled == MAX_DATA_BYTES {
            return self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let header = Header { length: self.filled, kind: Kind::Content, offset: self.offset };
        self.frame[..HEADER_BYTES].copy_from_slice(&header.encode());
        self.connection.send(&self.frame[..HEADER_BYTES + self.filled])?;
        self.offset += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}
