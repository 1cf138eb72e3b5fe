// SPDX-License-Identifier: Apache-2.0
//! The numbered changes of one watch, the newest of them kept, and who waits for more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::waker::Waker;
use crate::watches::change::{Change, End};

/// What the changes of all watches may take, together. A watch that keeps less than its share drops
/// nothing for it.
const ALL_BYTES: usize = 16 << 20;
const SHARE_BYTES: usize = 256 << 10;
/// Of one frame, far below what it may hold.
const BATCH_BYTES: usize = 64 << 10;

pub struct Changes {
    state: Mutex<State>,
    keep: usize,
    /// What the changes of all watches take.
    all_bytes: Arc<AtomicUsize>,
}

struct State {
    kept: VecDeque<Kept>,
    /// The number of the oldest that is kept.
    first: u64,
    /// The highest number that a reader has had.
    heard: u64,
    bytes: usize,
    ended: Option<End>,
    last_reader: u64,
    /// With how to wake those that sleep.
    readers: BTreeMap<u64, Option<Waker>>,
    /// Since when there has been no reader.
    idle_since: Instant,
}

struct Kept {
    change: Change,
    at: u64,
}

/// What there is for a reader.
pub struct Batch {
    pub changes: Vec<Vec<u8>>,
    /// The number of the last of them, or the one asked about.
    pub last: u64,
    pub ended: Option<End>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Extent {
    pub first: u64,
    pub last: u64,
    pub ended: Option<End>,
}

impl Changes {
    pub fn new(keep: usize, all_bytes: Arc<AtomicUsize>) -> Changes {
        let state = State {
            kept: VecDeque::new(),
            first: 1,
            heard: 0,
            bytes: 0,
            ended: None,
            last_reader: 0,
            readers: BTreeMap::new(),
            idle_since: Instant::now(),
        };
        Changes { state: Mutex::new(state), keep, all_bytes }
    }

    /// Adds a change. Readers hear of it at the next `wake`.
    pub fn push(&self, change: Change) {
        let at = now();
        let mut state = self.lock();
        if state.merge(&change, at) {
            return;
        }
        let bytes = change.bytes();
        state.bytes += bytes;
        self.all_bytes.fetch_add(bytes, Ordering::Relaxed);
        state.kept.push_back(Kept { change, at });
        while self.is_too_much(&state) {
            self.drop_oldest(&mut state);
        }
    }

    pub fn wake(&self) {
        let mut state = self.lock();
        state.readers.values_mut().filter_map(Option::take).for_each(|waker| waker.wake());
    }

    /// Nothing is added any more. What is said first stands.
    pub fn end(&self, end: End) {
        self.lock().ended.get_or_insert(end);
        self.wake();
    }

    pub fn extent(&self) -> Extent {
        let state = self.lock();
        Extent { first: state.first, last: state.last(), ended: state.ended }
    }

    /// A reader from `since` on, until `close`.
    pub fn open(&self, since: u64) -> Result<u64> {
        let mut state = self.lock();
        if since > state.last() {
            return Err(Error::Invalid("since is after the newest change"));
        }
        state.last_reader += 1;
        let reader = state.last_reader;
        state.readers.insert(reader, None);
        Ok(reader)
    }

    pub fn close(&self, reader: u64) {
        let mut state = self.lock();
        state.readers.remove(&reader);
        state.idle_since = Instant::now();
    }

    /// The next changes after `since`, none of them after `until`.
    pub fn read(&self, since: u64, until: u64) -> Batch {
        let mut state = self.lock();
        let mut batch = Batch { changes: Vec::new(), last: since, ended: state.ended };
        let mut bytes = 0;
        if since + 1 < state.first {
            // Made for this reader alone, with a number from which it can go on.
            batch.last = state.first - 1;
            batch.changes.push(Change::overflow(None).render(batch.last, now()));
        }
        let skipped = usize::try_from(batch.last + 1 - state.first).unwrap_or(usize::MAX);
        for kept in state.kept.iter().skip(skipped) {
            if batch.last >= until || bytes >= BATCH_BYTES {
                break;
            }
            batch.last += 1;
            let record = kept.change.render(batch.last, kept.at);
            bytes += record.len();
            batch.changes.push(record);
        }
        state.heard = state.heard.max(batch.last);
        batch
    }

    /// False if there is something after `since` already, else `waker` is woken when there is.
    pub fn sleep(&self, reader: u64, since: u64, waker: &Waker) -> bool {
        let mut state = self.lock();
        if state.last() > since || state.ended.is_some() {
            return false;
        }
        state.readers.insert(reader, Some(waker.clone()));
        true
    }

    /// How long nobody may go on to read before `linger` is over; none while somebody reads.
    pub fn time_left(&self, linger: Duration) -> Option<Duration> {
        let state = self.lock();
        let left = linger.saturating_sub(state.idle_since.elapsed());
        Some(left).filter(|_| state.readers.is_empty())
    }

    fn is_too_much(&self, state: &State) -> bool {
        let all = self.all_bytes.load(Ordering::Relaxed);
        state.kept.len() > self.keep || (state.bytes > SHARE_BYTES && all > ALL_BYTES)
    }

    fn drop_oldest(&self, state: &mut State) {
        if let Some(kept) = state.kept.pop_front() {
            let bytes = kept.change.bytes();
            state.first += 1;
            state.bytes -= bytes;
            self.all_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.all_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl State {
    fn last(&self) -> u64 {
        self.first + self.kept.len() as u64 - 1
    }

    /// The same once more, before anybody has heard of the first, is the same change at a later time.
    fn merge(&mut self, change: &Change, at: u64) -> bool {
        let is_unheard = self.last() > self.heard;
        match self.kept.back_mut() {
            Some(last) if is_unheard && last.change.is_repeated_by(change) => {
                last.at = at;
                true
            }
            _ => false,
        }
    }
}

fn now() -> u64 {
    nanoseconds(SystemTime::now())
}

/// Since 1970.
pub fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Fields;
    use crate::watches::change::Kind;

    fn changes(keep: usize) -> Changes {
        Changes::new(keep, Arc::default())
    }

    fn push(changes: &Changes, kind: Kind, path: &str) {
        changes.push(Change::new(kind, path.as_bytes().to_vec(), false));
    }

    /// Number and kind of each.
    fn read(changes: &Changes, since: u64) -> Vec<(u64, String)> {
        let batch = changes.read(since, u64::MAX);
        let fields = batch.changes.iter().map(|record| Fields::decode(record).unwrap());
        let parts = fields.map(|fields| {
            let number = fields.number("number").unwrap().unwrap();
            (number, fields.text("kind").unwrap().unwrap().to_owned())
        });
        parts.collect()
    }

    fn named(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|(number, kind)| (*number, (*kind).to_owned())).collect()
    }

    #[test]
    fn changes_are_numbered_from_one() {
        let changes = changes(10);
        let nothing = Extent { first: 1, last: 0, ended: None };
        assert_eq!(changes.extent(), nothing);

        push(&changes, Kind::Created, "/a");
        push(&changes, Kind::Removed, "/a");

        assert_eq!(read(&changes, 0), named(&[(1, "created"), (2, "removed")]));
        assert_eq!(read(&changes, 1), named(&[(2, "removed")]));
        assert_eq!(read(&changes, 2), []);
    }

    #[test]
    fn reader_hears_that_changes_were_dropped_and_can_go_on_from_there() {
        let changes = changes(2);
        for number in 0..5 {
            push(&changes, Kind::Created, &format!("/{}", number));
        }

        let all = named(&[(3, "overflow"), (4, "created"), (5, "created")]);
        for since in 0..3 {
            assert_eq!(read(&changes, since), all);
        }
        assert_eq!(read(&changes, 3), all[1..]);
        assert_eq!(changes.extent(), Extent { first: 4, last: 5, ended: None });
    }

    #[test]
    fn repeated_change_is_one_until_it_has_been_read() {
        let changes = changes(10);
        for kind in [Kind::Created, Kind::Created, Kind::Modified, Kind::Modified] {
            push(&changes, kind, "/a");
        }
        push(&changes, Kind::Modified, "/b");
        push(&changes, Kind::Modified, "/a");

        assert_eq!(read(&changes, 0).len(), 5);
        push(&changes, Kind::Modified, "/a");
        assert_eq!(read(&changes, 5), named(&[(6, "modified")]));
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_over_all_watches() {
        let all = Arc::new(AtomicUsize::new(0));
        let watches: Vec<Changes> =
            (0..4).map(|_| Changes::new(65_536, Arc::clone(&all))).collect();
        let long = "/".repeat(4000);

        for _ in 0..3000 {
            watches.iter().for_each(|changes| push(changes, Kind::Created, &long));
        }

        assert!(all.load(Ordering::Relaxed) < ALL_BYTES + 3 * SHARE_BYTES);
        for changes in &watches {
            assert_eq!(changes.extent().last, 3000);
            assert!(changes.extent().first < 3000 - 60);
        }
        drop(watches);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn batch_is_bounded_and_ends_where_it_is_told() {
        let changes = changes(1000);
        for _ in 0..1000 {
            push(&changes, Kind::Created, &"/x".repeat(500));
        }

        let batch = changes.read(0, u64::MAX);
        assert!(batch.changes.len() > 50 && batch.changes.len() < 100);
        assert_eq!(batch.last, batch.changes.len() as u64);
        assert_eq!(changes.read(990, 995).changes.len(), 5);
    }

    #[test]
    fn numbers_that_have_not_been_given_cannot_be_asked_about() {
        let changes = changes(10);
        push(&changes, Kind::Created, "/a");

        assert!(changes.open(1).is_ok());
        assert!(matches!(changes.open(2), Err(Error::Invalid(_))));
    }

    #[test]
    fn first_end_stands() {
        let changes = changes(10);
        changes.end(End::Removed);
        changes.end(End::Stopped);

        assert_eq!(changes.extent().ended, Some(End::Removed));
    }
}
