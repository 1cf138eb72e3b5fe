// SPDX-License-Identifier: Apache-2.0
//! One reader of a process's journal: where it stands, and where it is to stop.

use std::sync::Arc;

use crate::connection::Connection;
use crate::error::Result;
use crate::journal::Offer;
use crate::log::{Excerpt, Place};
use crate::outbox::Outbox;
use crate::process::Process;
use crate::waker::Waker;

/// Less than this goes out together with whatever else is to be said.
const SMALL_BYTES: usize = 16 << 10;

pub struct Reader {
    process: Arc<Process>,
    id: u64,
    until: u64,
    end_position: u64,
    excerpt: Excerpt,
}

/// Where a reader begins.
pub struct Beginning {
    pub place: Place,
    pub dropped: u64,
    /// The rest of a frame, to be sent before what the reader has.
    pub cut: Vec<u8>,
}

impl Reader {
    /// Begins at a position, or at the end; without `follows` it stops where the output ends now.
    pub fn open(
        process: &Arc<Process>,
        since: Option<u64>,
        follows: bool,
    ) -> Result<(Reader, Beginning)> {
        let start = process.journal.open(since)?;
        let reader = Reader {
            process: Arc::clone(process),
            id: start.reader,
            until: if follows { u64::MAX } else { start.end.log },
            end_position: start.end.position(),
            excerpt: Excerpt::default(),
        };
        let beginning = Beginning { place: start.place, dropped: start.dropped, cut: start.cut };
        Ok((reader, beginning))
    }

    /// The position at which it is to stop; none if it follows the process.
    pub fn end_position(&self) -> Option<u64> {
        Some(self.end_position).filter(|_| self.until != u64::MAX)
    }

    /// Sends from the journal's own memory what the client takes now.
    pub fn send_nowait(&mut self, connection: &mut Connection) -> Result<Offer> {
        let journal = &self.process.journal;
        journal.offer(self.id, self.until, &mut self.excerpt, |bytes| connection.send_nowait(bytes))
    }

    /// Moves what is small to an outbox; whether it has everything then.
    pub fn copy_small(&mut self, outbox: &mut Outbox) -> Result<bool> {
        loop {
            let room = SMALL_BYTES.saturating_sub(outbox.len());
            let journal = &self.process.journal;
            let offer = journal.offer(self.id, self.until, &mut self.excerpt, |bytes| {
                if bytes.len() > room {
                    return Ok(0);
                }
                outbox.push_bytes(bytes);
                Ok(bytes.len())
            })?;
            match offer {
                Offer::Taken => {}
                Offer::Refused => return Ok(false),
                Offer::Nothing => return Ok(true),
            }
        }
    }

    /// Finishes the frame of which the client has had a part.
    pub fn copy_rest_of_frame(&self, outbox: &mut Outbox) -> Result<()> {
        outbox.push_bytes(&self.process.journal.rest_of_frame(self.id)?);
        Ok(())
    }

    /// False if there is something to do already, else `sleeper` is woken when there is.
    pub fn sleep(&self, sleeper: &Waker) -> bool {
        self.process.journal.sleep(self.id, self.until, sleeper)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.process.journal.close(self.id);
    }
}
