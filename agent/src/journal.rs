// SPDX-License-Identifier: Apache-2.0
//! What one process has written: its *log*, the very frames that are sent, in the order in which
//! they were read. The newest part is in memory, the older one in a file (`spill.rs`).
//!
//! The log is kept in *chunks* of whole frames, which are spilled and dropped whole. Each knows
//! where in the streams it begins, so that a position is found by one look at the frames of one
//! chunk. Readers (`reader.rs`) stand at offsets of the log and take its bytes as they are.
//!
//! No lock is held while anything waits: what is read from and sent to under it is known to be ready
//! or never blocks. Writing to the spill file is as fast as the sandbox's page cache.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::frame::{Kind, HEADER_BYTES};
use crate::log::{frame_at, index, Entry, Excerpt, Log, Place, DEFAULT_JOURNAL_BYTES};
use crate::waker::Waker;

pub struct Journal {
    state: Mutex<Log>,
    /// Whether the process waits for its readers; then it is not idle.
    is_stalled: AtomicBool,
}

/// Where a new reader begins.
pub struct Start {
    pub reader: u64,
    pub place: Place,
    /// How much of what was asked for is gone.
    pub dropped: u64,
    /// A frame of which only the rest was asked for; it comes first.
    pub cut: Vec<u8>,
    pub end: Place,
}

/// What became of an offer to a reader.
#[derive(Debug, PartialEq, Eq)]
pub enum Offer {
    Taken,
    Refused,
    /// The reader has everything.
    Nothing,
}

impl Journal {
    pub fn new(bytes: u64) -> Journal {
        Journal { state: Mutex::new(Log::new(bytes)), is_stalled: AtomicBool::new(false) }
    }

    /// For clients that know of no journal: never more than the newest part, never on the disk.
    pub fn brief() -> Journal {
        let journal = Journal::new(DEFAULT_JOURNAL_BYTES);
        let mut state = journal.lock();
        state.is_brief = true;
        state.is_always_brief = true;
        drop(state);
        journal
    }

    /// Adds one frame of at most `wanted` bytes, which `read` must fill in without waiting; how many
    /// it did. None while there is no room.
    pub fn append(
        &self,
        kind: Kind,
        wanted: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize>,
    ) -> Result<Option<usize>> {
        let mut state = self.lock();
        let room = state.make_room(wanted);
        self.is_stalled.store(room == 0, Ordering::Relaxed);
        if room == 0 {
            return Ok(None);
        }
        state.add_frame(kind, room, read).map(Some)
    }

    /// The same for the last words of a process, which are never refused: a pipe holds little.
    pub fn append_last(
        &self,
        kind: Kind,
        wanted: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize>,
    ) -> Result<usize> {
        let mut state = self.lock();
        let room = state.make_room(wanted).max(wanted.min(state.chunk_bytes - HEADER_BYTES));
        state.add_frame(kind, room, read)
    }

    /// Whether `append` would take something now. If not, `pump` is woken when it may.
    ///
    /// `is_behind` says that the pump's own reader has yet to take something. Where nothing is to be
    /// kept but the newest part, the process then waits at once: larger frames come of it.
    pub fn has_room(&self, pump: Option<&Waker>, is_behind: bool) -> bool {
        let mut state = self.lock();
        let waits = is_behind && state.is_brief;
        let has_room = !waits && state.has_room();
        self.is_stalled.store(!has_room, Ordering::Relaxed);
        state.pump = if has_room || waits { None } else { pump.cloned() };
        has_room
    }

    pub fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Relaxed)
    }

    /// Nothing will be added any more.
    pub fn complete(&self) {
        let mut state = self.lock();
        state.is_complete = true;
        state.pump = None;
        state.spare = Vec::new();
        // The last chunk alone has been made larger than what is in it. Cut in place it would leave a
        // hole in the heap, too small for the next one, behind every process that is kept.
        if let Some(tail) = state.chunks.back_mut() {
            tail.bytes = tail.bytes[..tail.length].to_vec();
        }
        state.wake_readers();
        self.is_stalled.store(false, Ordering::Relaxed);
    }

    /// The oldest place kept, and the end.
    pub fn extent(&self) -> (Place, Place) {
        let state = self.lock();
        (state.first(), state.end)
    }

    pub fn is_followed(&self) -> bool {
        !self.lock().readers.is_empty()
    }

    /// How much memory a complete journal holds.
    pub fn memory_bytes(&self) -> u64 {
        self.lock().memory_length()
    }

    /// How much of the log is kept, in memory and on the disk.
    pub fn kept_bytes(&self) -> u64 {
        let state = self.lock();
        state.end.log - state.first().log
    }

    /// Gives up all that is kept, unless it is being read. What comes to read it is told how much that was.
    pub fn empty(&self) {
        let mut state = self.lock();
        if state.readers.is_empty() {
            while state.drop_front() {}
            state.spare = Vec::new();
        }
    }

    /// Moves everything to the disk. What may not be there, or does not fit, is given up unless it
    /// is being read.
    pub fn leave_memory(&self) {
        let mut state = self.lock();
        let has_left = !state.is_always_brief && state.spill_all();
        state.spare = Vec::new();
        drop(state);
        if !has_left {
            self.empty();
        }
    }

    /// Adds a reader that begins at a position, or at the end.
    pub fn open(&self, since: Option<u64>) -> Result<Start> {
        let mut state = self.lock();
        let first = state.first();
        let since = since.unwrap_or_else(|| state.end.position());
        if since > state.end.position() {
            return Err(Error::Invalid("since is past the end"));
        }
        let dropped = first.position().saturating_sub(since);
        let (place, cursor, cut) = state.seek(since + dropped)?;
        if state.readers.is_empty() {
            state.followed_from = state.end.log;
        }
        state.last_reader += 1;
        let reader = state.last_reader;
        state.readers.push(Entry { id: reader, cursor, sleeper: None });
        Ok(Start { reader, place, dropped, cut, end: state.end })
    }

    pub fn close(&self, reader: u64) {
        let mut state = self.lock();
        state.readers.retain(|entry| entry.id != reader);
        if state.readers.is_empty() {
            state.is_brief = state.is_always_brief;
        }
        state.wake_pump();
    }

    /// Offers a reader what comes next, up to the offset `until` of the log. `give` takes some of it
    /// without waiting and says how much. `excerpt` is the reader's own, for what is on the disk.
    pub fn offer(
        &self,
        reader: u64,
        until: u64,
        excerpt: &mut Excerpt,
        give: impl FnOnce(&[u8]) -> Result<usize>,
    ) -> Result<Offer> {
        let mut state = self.lock();
        let cursor = state.cursor(reader);
        let until = until.min(state.end.log);
        if cursor >= until {
            return Ok(Offer::Nothing);
        }
        let taken = give(state.bytes_from(cursor, until, excerpt)?)?;
        if taken == 0 {
            return Ok(Offer::Refused);
        }
        state.readers.iter_mut().filter(|entry| entry.id == reader).for_each(|entry| {
            entry.cursor += taken as u64;
        });
        state.wake_pump();
        Ok(Offer::Taken)
    }

    /// What is left of a frame of which a reader has taken a part.
    pub fn rest_of_frame(&self, reader: u64) -> Result<Vec<u8>> {
        let state = self.lock();
        let cursor = state.cursor(reader);
        if cursor >= state.end.log {
            return Ok(Vec::new());
        }
        let chunk = state.chunk_at(cursor);
        let (start, bytes) = (state.chunks[chunk].start.log, state.chunk_bytes(chunk)?);
        let mut at = start;
        while at < cursor {
            let header = frame_at(&bytes, at - start)?.0;
            let end = at + (HEADER_BYTES + header.length) as u64;
            if end > cursor {
                let rest = index(cursor - start)..index(end - start);
                return Ok(bytes.get(rest).unwrap_or_default().to_vec());
            }
            at = end;
        }
        Ok(Vec::new())
    }

    /// Has `sleeper` woken at the next news. False if there are some already.
    pub fn sleep(&self, reader: u64, until: u64, sleeper: &Waker) -> bool {
        let mut state = self.lock();
        let has_all = state.cursor(reader) >= until.min(state.end.log);
        if !has_all || state.is_complete {
            return false;
        }
        state.readers.iter_mut().filter(|entry| entry.id == reader).for_each(|entry| {
            entry.sleeper = Some(sleeper.clone());
        });
        true
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{BRIEF_BYTES, MEMORY_BYTES};
    use crate::spill::Spill;

    fn journal_on_a_full_disk() -> Journal {
        let journal = Journal::new(DEFAULT_JOURNAL_BYTES);
        journal.lock().spill = Spill::broken();
        journal
    }

    #[test]
    fn on_a_full_disk_the_newest_part_is_kept() {
        let journal = journal_on_a_full_disk();

        for _ in 0..100 {
            assert_eq!(
                journal.append(Kind::Stdout, 50_000, |room| Ok(room.len())),
                Ok(Some(50_000))
            );
        }

        assert!((MEMORY_BYTES..=BRIEF_BYTES).contains(&journal.kept_bytes()));
        journal.complete();
        journal.leave_memory();
        assert_eq!(journal.kept_bytes(), 0);
    }

    #[test]
    fn on_a_full_disk_a_reader_loses_nothing() {
        let journal = journal_on_a_full_disk();
        let reader = journal.open(None).unwrap().reader;
        let (mut written, mut taken, mut waits) = (0, 0, 0);

        for _ in 0..100 {
            match journal.append(Kind::Stdout, 50_000, |room| Ok(room.len())).unwrap() {
                Some(count) => written += count + HEADER_BYTES,
                None => {
                    waits += 1;
                    let mut excerpt = Excerpt::default();
                    let mut take = |bytes: &[u8]| {
                        taken += bytes.len();
                        Ok(bytes.len())
                    };
                    while journal.offer(reader, u64::MAX, &mut excerpt, &mut take).unwrap()
                        == Offer::Taken
                    {}
                    assert_eq!(taken, written);
                }
            }
        }

        assert!(waits > 5 && written > 4_000_000);
    }
}
