// SPDX-License-Identifier: Apache-2.0
//! Who is told of each process that ends, and what each of them has yet to take.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::process::Process;
use crate::waker::Waker;

/// One that leaves more than this is let go: it then asks what there is, and listens anew.
const KEEP: usize = 256;

#[derive(Default)]
pub struct Listeners {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    all: BTreeMap<u64, Inbox>,
}

struct Inbox {
    waker: Waker,
    ended: VecDeque<Arc<Process>>,
    is_behind: bool,
}

pub struct Listener {
    listeners: Arc<Listeners>,
    id: u64,
    waker: Waker,
}

impl Listeners {
    pub fn tell(&self, process: &Arc<Process>) {
        for inbox in self.lock().all.values_mut() {
            if inbox.ended.len() < KEEP {
                inbox.ended.push_back(Arc::clone(process));
            } else {
                inbox.is_behind = true;
            }
            inbox.waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Hears of all that ends from now on.
    pub fn open(listeners: &Arc<Listeners>) -> Result<Listener> {
        let waker = Waker::new()?;
        let mut state = listeners.lock();
        state.last_id += 1;
        let id = state.last_id;
        let inbox = Inbox { waker: waker.clone(), ended: VecDeque::new(), is_behind: false };
        state.all.insert(id, inbox);
        Ok(Listener { listeners: Arc::clone(listeners), id, waker })
    }

    /// What has ended since the last call, in that order.
    pub fn take(&self) -> Result<Vec<Arc<Process>>> {
        let mut state = self.listeners.lock();
        let inbox = state.all.get_mut(&self.id).ok_or(Error::Closed)?;
        if inbox.ended.is_empty() && inbox.is_behind {
            return Err(Error::Slow);
        }
        Ok(inbox.ended.drain(..).collect())
    }

    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.listeners.lock().all.remove(&self.id);
    }
}
