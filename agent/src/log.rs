// SPDX-License-Identifier: Apache-2.0
//! The log of one journal: chunks of whole frames, the older ones on the disk, the readers' places in
//! it, and what of it may be dropped when. Its lock is `journal.rs`.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::error::{errno, Error, Result};
use crate::frame::{push_frame, Header, Kind, HEADER_BYTES};
use crate::spill::Spill;
use crate::waker::Waker;

pub const DEFAULT_JOURNAL_BYTES: u64 = 10 << 20;
pub const MAX_JOURNAL_BYTES: u64 = 1 << 30;
/// A smaller journal could not hold a few frames of a useful size.
const MIN_JOURNAL_BYTES: u64 = 4 << 10;
/// How much of the newest output stays in memory at least, once there is so much.
pub const MEMORY_BYTES: u64 = 256 << 10;
const MAX_CHUNK_BYTES: usize = 128 << 10;
const MIN_CHUNK_BYTES: usize = 1 << 10;
/// Chunks of small frames grow to this size, a larger one is made for a large frame.
const GROWN_CHUNK_BYTES: usize = 64 << 10;
/// Chunks that one journal holds at its full size; fewer would make dropping one too coarse.
const MIN_CHUNKS: u64 = 8;
/// A rest of a chunk below this share of it is not worth a read that wants more.
const WORTHWHILE_SHARE: usize = 4;
/// All that a journal without a file may hold: the newest part, one chunk that has yet to become
/// superfluous, and one that is being filled.
pub const BRIEF_BYTES: u64 = MEMORY_BYTES + 2 * MAX_CHUNK_BYTES as u64;

/// A place in the log and in the streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    pub log: u64,
    pub stdout: u64,
    pub stderr: u64,
}

/// A part of the log, copied from the disk for one reader.
#[derive(Default)]
pub struct Excerpt {
    pub start: u64,
    pub bytes: Vec<u8>,
}

pub struct Log {
    /// Oldest first; the bytes of the first `spilled` are in the file.
    pub chunks: VecDeque<Chunk>,
    pub spilled: usize,
    pub end: Place,
    pub limit: u64,
    pub chunk_bytes: usize,
    pub spill: Spill,
    pub spare: Vec<u8>,
    /// Whether what all readers have taken is dropped at once instead of spilled.
    pub is_brief: bool,
    pub is_always_brief: bool,
    /// Where the log ended when the first of the readers came.
    pub followed_from: u64,
    pub readers: Vec<Entry>,
    pub last_reader: u64,
    pub pump: Option<Waker>,
    pub is_complete: bool,
}

pub struct Chunk {
    pub start: Place,
    pub length: usize,
    pub bytes: Vec<u8>,
}

pub struct Entry {
    pub id: u64,
    pub cursor: u64,
    pub sleeper: Option<Waker>,
}

impl Place {
    /// Bytes of output before it.
    pub fn position(&self) -> u64 {
        self.stdout + self.stderr
    }

    fn offset(&self, kind: Kind) -> u64 {
        if kind == Kind::Stderr {
            return self.stderr;
        }
        self.stdout
    }

    fn skip(&mut self, kind: Kind, bytes: u64) {
        match kind {
            Kind::Stderr => self.stderr += bytes,
            _ => self.stdout += bytes,
        }
    }

    fn advance(&mut self, kind: Kind, length: usize) {
        self.log += (HEADER_BYTES + length) as u64;
        self.skip(kind, length as u64);
    }
}

impl Chunk {
    pub fn end(&self) -> u64 {
        self.start.log + self.length as u64
    }
}

impl Log {
    pub fn new(bytes: u64) -> Log {
        let limit = bytes.clamp(MIN_JOURNAL_BYTES, MAX_JOURNAL_BYTES);
        let share = usize::try_from(limit / MIN_CHUNKS).unwrap_or(usize::MAX);
        Log {
            chunks: VecDeque::new(),
            spilled: 0,
            end: Place::default(),
            limit,
            chunk_bytes: share.clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES),
            // With room for what the pipes hold at the end, for which nobody waits.
            spill: Spill::new(limit + BRIEF_BYTES),
            spare: Vec::new(),
            is_brief: false,
            is_always_brief: false,
            followed_from: 0,
            readers: Vec::new(),
            last_reader: 0,
            pump: None,
            is_complete: false,
        }
    }

    pub fn first(&self) -> Place {
        self.chunks.front().map_or(self.end, |chunk| chunk.start)
    }

    fn memory_start(&self) -> u64 {
        self.chunks.get(self.spilled).map_or(self.end.log, |chunk| chunk.start.log)
    }

    pub fn memory_length(&self) -> u64 {
        self.end.log - self.memory_start()
    }

    /// What all readers have taken; none without readers.
    fn taken(&self) -> Option<u64> {
        self.readers.iter().map(|entry| entry.cursor).min()
    }

    pub fn cursor(&self, reader: u64) -> u64 {
        let found = self.readers.iter().find(|entry| entry.id == reader);
        found.map_or(self.end.log, |entry| entry.cursor)
    }

    fn limit(&self) -> u64 {
        if self.is_brief || self.spill.is_broken() {
            return self.limit.min(BRIEF_BYTES);
        }
        self.limit
    }

    /// Drops what may be dropped until a frame of `wanted` bytes fits; how much of it does.
    pub fn make_room(&mut self, wanted: usize) -> usize {
        let wanted = wanted.min(self.chunk_bytes - HEADER_BYTES);
        let needed = (HEADER_BYTES + wanted) as u64;
        loop {
            let left = self.limit().saturating_sub(self.end.log - self.first().log);
            if left >= needed {
                return wanted;
            }
            if !self.drop_superfluous() {
                // Many small frames in place of a large one would help nobody.
                let is_enough = left >= (self.chunk_bytes / WORTHWHILE_SHARE) as u64;
                return if is_enough { index(left) - HEADER_BYTES } else { 0 };
            }
        }
    }

    pub fn has_room(&mut self) -> bool {
        self.make_room(self.chunk_bytes) > 0
    }

    fn drop_superfluous(&mut self) -> bool {
        let taken = match self.taken() {
            Some(taken) => taken,
            None => return self.drop_front(),
        };
        // Readers who keep up with more than a journal full will not need the disk: what comes is
        // not written there. First they must have caught up, or it would all pass through it.
        if !self.is_brief && self.end.log - self.followed_from >= self.limit {
            self.is_brief = taken >= self.memory_start();
            while self.is_brief && self.spilled > 0 {
                self.drop_front();
            }
            return self.is_brief;
        }
        let is_taken = self.chunks.front().map_or(false, |chunk| chunk.end() <= taken);
        is_taken && self.drop_front()
    }

    /// False when there is nothing left to drop.
    pub fn drop_front(&mut self) -> bool {
        let chunk = match self.chunks.pop_front() {
            Some(chunk) => chunk,
            None => return false,
        };
        if self.spilled == 0 {
            self.spare = chunk.bytes;
            return true;
        }
        self.spilled -= 1;
        if self.spilled == 0 {
            self.spill.clear();
        }
        true
    }

    pub fn add_frame(
        &mut self,
        kind: Kind,
        room: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize>,
    ) -> Result<usize> {
        let offset = self.end.offset(kind);
        let tail = self.tail(HEADER_BYTES + room);
        let free = &mut tail.bytes[tail.length..];
        let payload_end = (HEADER_BYTES + room).min(free.len());
        let length = read(&mut free[HEADER_BYTES..payload_end])?;
        if length == 0 {
            return Ok(0);
        }
        free[..HEADER_BYTES].copy_from_slice(&Header { length, kind, offset }.encode());
        tail.length += HEADER_BYTES + length;
        self.end.advance(kind, length);
        self.wake_readers();
        Ok(length)
    }

    /// The chunk to add a frame to, with room for `needed` bytes or a worthwhile part of them.
    fn tail(&mut self, needed: usize) -> &mut Chunk {
        let last = self.chunks.len().wrapping_sub(1);
        if self.spilled < self.chunks.len() && self.has_free(last, needed) {
            return &mut self.chunks[last];
        }
        if self.chunks.back().map_or(false, |chunk| chunk.length == 0) {
            self.chunks.pop_back();
        }
        self.spill_old();
        let mut bytes = std::mem::take(&mut self.spare);
        if bytes.len() < needed {
            bytes = vec![0; needed];
        }
        self.chunks.push_back(Chunk { start: self.end, length: 0, bytes });
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }

    fn has_free(&mut self, index: usize, needed: usize) -> bool {
        let grown_bytes = GROWN_CHUNK_BYTES.min(self.chunk_bytes);
        let tail = &mut self.chunks[index];
        let wanted = tail.length + needed;
        if wanted > tail.bytes.len() && wanted <= grown_bytes {
            tail.bytes.resize(wanted.max(2 * tail.bytes.len()).min(grown_bytes), 0);
        }
        let free = tail.bytes.len() - tail.length;
        free >= needed || free >= self.chunk_bytes / WORTHWHILE_SHARE
    }

    /// Moves the oldest chunks in memory to the disk, down to the newest part.
    fn spill_old(&mut self) {
        while let Some(chunk) = self.chunks.get(self.spilled) {
            let is_needed = self.memory_length() - (chunk.length as u64) < MEMORY_BYTES;
            if is_needed || self.is_brief || self.limit <= BRIEF_BYTES || !self.spill_one() {
                return;
            }
        }
    }

    pub fn spill_all(&mut self) -> bool {
        while self.spilled < self.chunks.len() {
            if !self.spill_one() {
                return false;
            }
        }
        true
    }

    fn spill_one(&mut self) -> bool {
        let first = self.first().log;
        let chunk = match self.chunks.get_mut(self.spilled) {
            Some(chunk) => chunk,
            None => return false,
        };
        let fits = chunk.end() - first <= self.spill.ring_bytes();
        if !fits || !self.spill.write(chunk.start.log, &chunk.bytes[..chunk.length]) {
            return false;
        }
        self.spare = std::mem::take(&mut chunk.bytes);
        self.spilled += 1;
        true
    }

    /// The chunk that holds an offset of the log below its end.
    pub fn chunk_at(&self, offset: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.start.log <= offset).saturating_sub(1)
    }

    pub fn chunk_bytes(&self, at: usize) -> Result<Cow<'_, [u8]>> {
        let chunk = &self.chunks[at];
        if at >= self.spilled {
            return Ok(Cow::Borrowed(&chunk.bytes[..chunk.length]));
        }
        let mut bytes = vec![0; chunk.length];
        self.spill.read(chunk.start.log, &mut bytes)?;
        Ok(Cow::Owned(bytes))
    }

    /// What follows `cursor` within its chunk; at least one byte.
    pub fn bytes_from<'a>(
        &'a self,
        cursor: u64,
        until: u64,
        excerpt: &'a mut Excerpt,
    ) -> Result<&'a [u8]> {
        let at = self.chunk_at(cursor);
        let chunk = &self.chunks[at];
        let end = chunk.end().min(until);
        if at >= self.spilled {
            let start = chunk.start.log;
            return Ok(&chunk.bytes[index(cursor - start)..index(end - start)]);
        }
        let excerpt_end = excerpt.start + excerpt.bytes.len() as u64;
        if cursor < excerpt.start || cursor >= excerpt_end {
            excerpt.start = cursor;
            excerpt.bytes.resize(index(end - cursor), 0);
            self.spill.read(cursor, &mut excerpt.bytes)?;
        }
        Ok(&excerpt.bytes[index(cursor - excerpt.start)..])
    }

    /// The place of a position that is kept, where a reader's cursor stands then, and the rest of
    /// the frame between the two if the position is within one.
    pub fn seek(&self, position: u64) -> Result<(Place, u64, Vec<u8>)> {
        if position >= self.end.position() {
            return Ok((self.end, self.end.log, Vec::new()));
        }
        let after = self.chunks.partition_point(|chunk| chunk.start.position() <= position);
        let at = after.saturating_sub(1);
        let bytes = self.chunk_bytes(at)?;
        let mut place = self.chunks[at].start;
        loop {
            let (header, payload) = frame_at(&bytes, place.log - self.chunks[at].start.log)?;
            let skipped = position - place.position();
            if skipped >= header.length as u64 {
                place.advance(header.kind, header.length);
                continue;
            }
            if skipped == 0 {
                return Ok((place, place.log, Vec::new()));
            }
            let cursor = place.log + (HEADER_BYTES + header.length) as u64;
            let mut cut = Vec::new();
            push_frame(&mut cut, header.kind, header.offset + skipped, &payload[index(skipped)..]);
            place.skip(header.kind, skipped);
            return Ok((place, cursor, cut));
        }
    }

    pub fn wake_readers(&mut self) {
        self.readers.iter_mut().filter_map(|entry| entry.sleeper.take()).for_each(|it| it.wake());
    }

    pub fn wake_pump(&mut self) {
        if self.pump.is_some() && self.has_room() {
            self.pump.take().iter().for_each(Waker::wake);
        }
    }
}

/// The frame that begins at an offset of a chunk. Only a disk that has lost what it was given can
/// make this fail.
pub fn frame_at(chunk: &[u8], offset: u64) -> Result<(Header, &[u8])> {
    let damaged = Error::System(errno::EIO);
    let rest = chunk.get(index(offset)..).ok_or(damaged)?;
    let head = rest.get(..HEADER_BYTES).and_then(|head| head.try_into().ok()).ok_or(damaged)?;
    let header = Header::decode(head)?;
    let payload = rest.get(HEADER_BYTES..HEADER_BYTES + header.length).ok_or(damaged)?;
    Ok((header, payload))
}

pub fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
