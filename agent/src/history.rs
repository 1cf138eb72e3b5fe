// SPDX-License-Identifier: Apache-2.0
//! All processes that can be asked about: those that run, and the last of those that have ended.
//! Signals are none of its business (`process.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::listeners::{Listener, Listeners};
use crate::process::{Exit, Process};

const KEEP_ENDED: usize = 256;
const KEEP_TIME: Duration = Duration::from_secs(3600);
/// What the journals of ended processes may hold in memory, all together. The oldest go to the disk.
const LOOSE_BYTES: u64 = 512 << 10;
/// What they may hold in memory and on the disk, all together. The oldest then lose their output, never the newest.
const KEPT_BYTES: u64 = 256 << 20;

pub struct History {
    state: Mutex<State>,
    listeners: Arc<Listeners>,
}

struct State {
    all: BTreeMap<u64, Arc<Process>>,
    /// In the order in which they ended.
    ended: VecDeque<Ended>,
    loose_bytes: u64,
    kept_bytes: u64,
    keep: usize,
    keep_time: Duration,
}

struct Ended {
    process: Arc<Process>,
    at: Instant,
    /// What its journal holds in memory.
    loose_bytes: u64,
    /// What its journal holds.
    kept_bytes: u64,
}

impl Default for History {
    fn default() -> History {
        History {
            listeners: Arc::default(),
            state: Mutex::new(State {
                all: BTreeMap::new(),
                ended: VecDeque::new(),
                loose_bytes: 0,
                kept_bytes: 0,
                keep: KEEP_ENDED,
                keep_time: KEEP_TIME,
            }),
        }
    }
}

impl History {
    /// A process has started.
    pub fn add(&self, process: &Arc<Process>) {
        self.lock().all.insert(process.id, Arc::clone(process));
    }

    /// A process has ended, and its journal is complete.
    pub fn finish(&self, process: &Arc<Process>, exit: Exit) {
        process.finish(exit);
        let mut state = self.lock();
        let loose_bytes = process.journal.memory_bytes();
        let kept_bytes = process.journal.kept_bytes();
        state.loose_bytes += loose_bytes;
        state.kept_bytes += kept_bytes;
        let entry = Arc::clone(process);
        state.ended.push_back(Ended {
            process: entry,
            at: Instant::now(),
            loose_bytes,
            kept_bytes,
        });
        state.purge();
        drop(state);
        self.listeners.tell(process);
    }

    /// Hears of every process that ends from now on.
    pub fn listen(&self) -> Result<Listener> {
        Listener::open(&self.listeners)
    }

    /// Keeps what has ended within its bounds. After `finish`, once the client knows.
    pub fn make_room(&self) {
        let mut state = self.lock();
        let emptied = state.take_oldest_kept();
        let leaving = state.take_oldest_loose();
        drop(state);
        // Without the lock: both may wait for the disk.
        emptied.iter().for_each(|process| process.journal.empty());
        leaving.iter().for_each(|process| process.journal.leave_memory());
    }

    pub fn find(&self, id: u64) -> Result<Arc<Process>> {
        let mut state = self.lock();
        state.purge();
        state.all.get(&id).cloned().ok_or(Error::UnknownProcess)
    }

    /// Oldest first.
    pub fn list(&self) -> Vec<Arc<Process>> {
        let mut state = self.lock();
        state.purge();
        state.all.values().cloned().collect()
    }

    pub fn forget(&self, id: u64) -> Result<()> {
        let mut state = self.lock();
        state.purge();
        if !state.all.contains_key(&id) {
            return Err(Error::UnknownProcess);
        }
        match state.ended.iter().position(|entry| entry.process.id == id) {
            Some(index) => state.remove(index),
            None => return Err(Error::ProcessRuns),
        }
        Ok(())
    }

    /// None leaves it as it is.
    pub fn configure(&self, keep: Option<usize>, keep_time: Option<Duration>) {
        let mut state = self.lock();
        state.keep = keep.unwrap_or(state.keep);
        state.keep_time = keep_time.unwrap_or(state.keep_time);
        state.purge();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Those whose output has to go, so that the others keep theirs.
    fn take_oldest_kept(&mut self) -> Vec<Arc<Process>> {
        let mut taken = Vec::new();
        let older = self.ended.len().saturating_sub(1);
        for entry in self.ended.iter_mut().take(older) {
            if self.kept_bytes <= KEPT_BYTES {
                break;
            }
            if entry.kept_bytes > 0 && !entry.process.journal.is_followed() {
                self.kept_bytes -= std::mem::take(&mut entry.kept_bytes);
                self.loose_bytes -= std::mem::take(&mut entry.loose_bytes);
                taken.push(Arc::clone(&entry.process));
            }
        }
        taken
    }

    /// Those whose output has to leave the memory.
    fn take_oldest_loose(&mut self) -> Vec<Arc<Process>> {
        let mut taken = Vec::new();
        for entry in &mut self.ended {
            if self.loose_bytes <= LOOSE_BYTES {
                break;
            }
            if entry.loose_bytes > 0 {
                self.loose_bytes -= std::mem::take(&mut entry.loose_bytes);
                taken.push(Arc::clone(&entry.process));
            }
        }
        taken
    }

    fn purge(&mut self) {
        let is_free = |entry: &Ended| !entry.process.journal.is_followed();
        while self.ended.len() > self.keep {
            let first_free = self.ended.iter().position(is_free);
            self.remove(first_free.unwrap_or(0));
        }
        let mut index = 0;
        while let Some(entry) = self.ended.get(index) {
            if entry.at.elapsed() <= self.keep_time {
                return;
            }
            if is_free(entry) {
                self.remove(index);
            } else {
                index += 1;
            }
        }
    }

    fn remove(&mut self, index: usize) {
        if let Some(entry) = self.ended.remove(index) {
            self.loose_bytes -= entry.loose_bytes;
            self.kept_bytes -= entry.kept_bytes;
            self.all.remove(&entry.process.id);
        }
    }
}
