// SPDX-License-Identifier: Apache-2.0
//! The kernel's queue of events: one after the other, with a look at what is still to come.

use std::collections::{BTreeMap, VecDeque};
use std::convert::TryInto;
use std::os::unix::io::AsRawFd;
use std::sync::Arc;

use crate::error::{errno, Error, Result};
use crate::inotify_unsafe::{Inotify, CREATE, DELETE, IS_DIRECTORY, MOVED_FROM, MOVED_TO};
use crate::sys_unsafe::{poll_fds, PollFd, POLLIN};

/// At least one event with the longest name.
const BUFFER_BYTES: usize = 16 << 10;
/// Descriptor, mask, cookie and length of the name; then the name, filled up with NUL.
const HEAD_BYTES: usize = 16;
/// How many events the second half of a rename may be behind the first.
const LOOK_AHEAD: usize = 256;
/// As many events are held here; Linux holds 16,384 of them by default, gVisor any number.
const MAX_WAITING: usize = 65_536;
/// More of them than this give back their memory when they have been taken.
const FEW_WAITING: usize = 1024;
/// The kernel queues the two halves of a rename one after the other, but not in one step, so the
/// second may come just after the first has been read. It never comes where the name has left what
/// is watched, so that the wait is short, and there is none where other events have followed.
const SECOND_HALF_MS: i32 = 2;
/// What brings a name or takes it away.
const MOVES: u32 = CREATE | DELETE | MOVED_FROM | MOVED_TO;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub wd: i32,
    /// 0 for one that has been taken already.
    pub mask: u32,
    pub cookie: u32,
    pub name: Box<[u8]>,
    bytes: u64,
}

/// Positions count bytes of events since the beginning.
pub struct Queue {
    inotify: Arc<Inotify>,
    buffer: Vec<u8>,
    waiting: VecDeque<Event>,
    /// How often directories are still to come to a place or to leave it.
    moving: BTreeMap<(i32, Box<[u8]>), usize>,
    taken: u64,
    read: u64,
}

/// A place in the queue: events that come later stand behind it, until the next is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(usize);

/// The first that happens to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstMove {
    /// So that it was there before; else it came.
    pub has_left: bool,
    pub is_directory: bool,
}

impl Queue {
    pub fn new(inotify: Arc<Inotify>) -> Queue {
        let buffer = vec![0; BUFFER_BYTES];
        let (waiting, moving) = (VecDeque::new(), BTreeMap::new());
        Queue { inotify, buffer, waiting, moving, taken: 0, read: 0 }
    }

    /// The next event that has come.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        if self.waiting.is_empty() {
            self.refill()?;
        }
        let event = self.waiting.pop_front();
        if let Some(event) = &event {
            self.taken += event.bytes;
            self.count_out(event);
        }
        if self.waiting.is_empty() && self.waiting.capacity() > FEW_WAITING {
            self.waiting = VecDeque::new();
        }
        Ok(event)
    }

    /// Looks at all that has come. False if that is more than is held.
    pub fn read_all(&mut self) -> Result<bool> {
        while self.waiting.len() < MAX_WAITING {
            if !self.refill()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn mark(&self) -> Mark {
        Mark(self.waiting.len())
    }

    /// Whether another directory may be at a place by now, as far as has been looked. Over an empty one
    /// another can come, without a word that the first has gone.
    pub fn is_moving(&self, wd: i32, name: &[u8]) -> bool {
        !self.moving.is_empty() && self.moving.contains_key(&(wd, Box::from(name)))
    }

    /// What first happens to names in a directory, behind the mark.
    pub fn first_moves(&self, wd: i32, mark: Mark) -> BTreeMap<&[u8], FirstMove> {
        let mut first = BTreeMap::new();
        for event in self.waiting.range(mark.0.min(self.waiting.len())..) {
            if event.wd == wd && event.has(MOVES) {
                let has_left = event.has(DELETE | MOVED_FROM);
                let is_directory = event.has(IS_DIRECTORY);
                first.entry(&*event.name).or_insert(FirstMove { has_left, is_directory });
            }
        }
        first
    }

    /// Whether a name is still to come or to leave, as far as has been looked.
    pub fn names(&self, wd: i32, name: &[u8]) -> bool {
        let is_it = |event: &Event| event.wd == wd && event.has(MOVES) && *event.name == *name;
        self.waiting.iter().any(is_it)
    }

    /// Whether all that was read has been taken.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The other half of a rename of which `next_event` has given the first.
    pub fn take_second_half(&mut self, cookie: u32) -> Result<Option<Event>> {
        if let Some(found) = self.find(cookie) {
            return Ok(Some(found));
        }
        if self.waiting.len() < LOOK_AHEAD && !self.refill()? && self.waiting.is_empty() {
            let fd = self.inotify.as_raw_fd();
            let mut fds = [PollFd { fd, events: POLLIN, revents: 0 }];
            // Interrupted or not, we look once more.
            let _ = poll_fds(&mut fds, SECOND_HALF_MS);
            self.refill()?;
        }
        Ok(self.find(cookie))
    }

    /// Where the next event begins.
    pub fn position(&self) -> u64 {
        self.taken
    }

    /// Where what is queued now ends.
    pub fn end(&self) -> Result<u64> {
        Ok(self.read + self.inotify.held_bytes()? as u64)
    }

    /// Forgets everything up to a position, or a little more.
    pub fn discard(&mut self, until: u64) -> Result<()> {
        self.clear();
        while self.read < until && self.refill()? {
            self.clear();
        }
        self.taken = self.read;
        Ok(())
    }

    fn clear(&mut self) {
        self.waiting = VecDeque::new();
        self.moving = BTreeMap::new();
    }

    fn find(&mut self, cookie: u32) -> Option<Event> {
        let is_it = |event: &&mut Event| event.mask & MOVED_TO != 0 && event.cookie == cookie;
        let found = self.waiting.iter_mut().take(LOOK_AHEAD).find(is_it)?;
        let second = found.clone();
        // It stays in its place, so that positions stay true.
        found.mask = 0;
        self.count_out(&second);
        Some(second)
    }

    /// False if there is nothing.
    fn refill(&mut self) -> Result<bool> {
        let filled = match self.inotify.read(&mut self.buffer).map_err(Error::from) {
            Err(Error::System(errno::EAGAIN | errno::EINTR)) => 0,
            other => other?,
        };
        self.read += filled as u64;
        let known = self.waiting.len();
        parse(self.buffer.get(..filled).unwrap_or_default(), &mut self.waiting)?;
        for event in self.waiting.range(known..).filter(|event| event.moves_directory()) {
            *self.moving.entry((event.wd, event.name.clone())).or_insert(0) += 1;
        }
        Ok(filled > 0)
    }

    fn count_out(&mut self, event: &Event) {
        if !event.moves_directory() {
            return;
        }
        let place = (event.wd, event.name.clone());
        match self.moving.get_mut(&place) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.moving.remove(&place)),
        }
    }
}

fn parse(mut bytes: &[u8], events: &mut VecDeque<Event>) -> Result<()> {
    while !bytes.is_empty() {
        // What the kernel writes is well formed; if it were not, this is an error and no panic.
        let broken = Error::System(errno::EIO);
        let head = bytes.get(..HEAD_BYTES).ok_or(broken)?;
        let number = |at: usize| head[at..at + 4].try_into().map(u32::from_ne_bytes);
        let numbers = (number(0), number(4), number(8), number(12));
        let (wd, mask, cookie, length) = match numbers {
            (Ok(wd), Ok(mask), Ok(cookie), Ok(length)) => (wd, mask, cookie, length as usize),
            _ => return Err(broken),
        };
        let padded = bytes.get(HEAD_BYTES..HEAD_BYTES + length).ok_or(broken)?;
        let end = padded.iter().position(|byte| *byte == 0).unwrap_or(length);
        let name = Box::from(&padded[..end]);
        bytes = &bytes[HEAD_BYTES + length..];
        let (wd, bytes) = (i32::from_ne_bytes(wd.to_ne_bytes()), (HEAD_BYTES + length) as u64);
        events.push_back(Event { wd, mask, cookie, name, bytes });
    }
    Ok(())
}

impl Event {
    pub fn has(&self, mask: u32) -> bool {
        self.mask & mask != 0
    }

    fn moves_directory(&self) -> bool {
        self.has(IS_DIRECTORY) && self.has(MOVES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(wd: i32, name: &[u8], padding: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = u32::try_from(name.len() + padding).unwrap();
        for number in [u32::from_ne_bytes(wd.to_ne_bytes()), 0x100, 7, length] {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        bytes.extend_from_slice(name);
        bytes.resize(bytes.len() + padding, 0);
        bytes
    }

    #[test]
    fn events_are_read_one_after_the_other() {
        let mut events = VecDeque::new();
        let bytes = [raw(1, b"a\nb", 13), raw(-1, b"", 0), raw(2, &[0xff; 16], 0)].concat();

        parse(&bytes, &mut events).unwrap();

        let names: Vec<&[u8]> = events.iter().map(|event| &*event.name).collect();
        assert_eq!(names, [&b"a\nb"[..], b"", &[0xff; 16]]);
        assert_eq!(events.iter().map(|event| event.wd).collect::<Vec<_>>(), [1, -1, 2]);
        assert_eq!(events.iter().map(|event| event.bytes).sum::<u64>(), bytes.len() as u64);
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let whole = raw(1, b"name", 12);
        for length in 1..whole.len() {
            assert!(parse(&whole[..length], &mut VecDeque::new()).is_err());
        }
    }
}
