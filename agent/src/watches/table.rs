// SPDX-License-Identifier: Apache-2.0
//! All watches of the sandbox, those that have ended and are still kept too.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::sys_unsafe::give_back_memory;
use crate::watches::watch::{Wanted, Watch};

const MAX_WATCHES: usize = 64;

#[derive(Default)]
pub struct Watches {
    state: Mutex<State>,
    usage: Usage,
}

/// What all of them take, together.
#[derive(Default)]
pub struct Usage {
    pub bytes: Arc<AtomicUsize>,
    pub directories: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    last: u64,
    all: BTreeMap<u64, Arc<Watch>>,
    /// Those for which a tree is still gone through.
    beginning: usize,
}

impl Watches {
    /// A new one, active when it is returned.
    pub fn start(
        self: &Arc<Self>,
        wanted: Wanted,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Arc<Watch>> {
        let (number, replaced) = self.lock().reserve()?;
        replaced.into_iter().for_each(|watch| watch.stop());
        let watch = Watch::new(number, wanted, &self.usage, goes_on);
        let mut state = self.lock();
        state.beginning -= 1;
        let watch = Arc::new(watch?);
        // Its thread can forget it only once it is here.
        watch.run(self)?;
        state.all.insert(number, Arc::clone(&watch));
        Ok(watch)
    }

    pub fn find(&self, number: u64) -> Result<Arc<Watch>> {
        self.lock().all.get(&number).cloned().ok_or(Error::UnknownWatch)
    }

    /// Oldest first.
    pub fn list(&self) -> Vec<Arc<Watch>> {
        self.lock().all.values().cloned().collect()
    }

    pub fn stop(&self, number: u64) -> Result<()> {
        let watch = self.lock().all.remove(&number).ok_or(Error::UnknownWatch)?;
        watch.stop();
        drop(watch);
        give_back_memory();
        Ok(())
    }

    /// It has ended, and nobody has read it for long.
    pub fn forget(&self, number: u64) {
        self.lock().all.remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A number for one more, and the oldest that has ended, where that must make room.
    fn reserve(&mut self) -> Result<(u64, Option<Arc<Watch>>)> {
        let mut replaced = None;
        if self.all.len() + self.beginning >= MAX_WATCHES {
            let has_ended = |watch: &&Arc<Watch>| watch.changes.extent().ended.is_some();
            let oldest = self.all.values().find(has_ended).map(|watch| watch.number);
            let oldest = oldest.ok_or(Error::Limit("64 directories are watched already"))?;
            replaced = self.all.remove(&oldest);
        }
        self.beginning += 1;
        self.last += 1;
        Ok((self.last, replaced))
    }
}
