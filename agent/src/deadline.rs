// SPDX-License-Identifier: Apache-2.0
//! Time limits of processes, in all and without output: SIGTERM to the tree, then SIGKILL after the
//! grace. One thread, made when the first limit is set, sleeps until the next deadline. Output does
//! not wake it: at the deadline it looks when there was some, and sleeps on.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::process::Process;
use crate::server::THREAD_STACK_BYTES;
use crate::sys_unsafe::SIGTERM;

/// Before a kill that a fork bomb outran is tried again.
const RETRY: Duration = Duration::from_millis(50);

#[derive(Default)]
pub struct Deadlines {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By time, then by process.
    queue: BTreeMap<(Instant, u64), Entry>,
    times: BTreeMap<u64, Instant>,
    has_thread: bool,
    /// When the thread looks again by itself; none where it would not.
    wakes_at: Option<Instant>,
}

struct Entry {
    process: Arc<Process>,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Terminate(Limits),
    Kill,
}

/// How long a process may run, and after that take to end.
#[derive(Clone, Copy)]
pub struct Limits {
    pub timeout: Option<Duration>,
    /// Without output.
    pub idle: Option<Duration>,
    pub grace: Duration,
}

impl Limits {
    /// When they would be passed, as things are. A time beyond what the clock can say is no limit.
    fn due(&self, process: &Process) -> Option<Instant> {
        let total = self.timeout.and_then(|timeout| process.started.checked_add(timeout));
        let idle = self.idle.and_then(|idle| process.last_output().checked_add(idle));
        total.into_iter().chain(idle).min()
    }
}

impl Deadlines {
    /// Limits a process that is being started.
    pub fn set(self: &Arc<Self>, process: &Arc<Process>, limits: Limits) -> Result<()> {
        let at = match limits.due(process) {
            Some(at) => at,
            None => return Ok(()),
        };
        let mut state = self.lock();
        if !state.has_thread {
            self.start_thread()?;
            state.has_thread = true;
        }
        let entry = Entry { process: Arc::clone(process), step: Step::Terminate(limits) };
        state.insert(at, entry);
        // Most commands end long before their limit and leave the thread asleep, which is well: it
        // looks again too early rather than being woken by every command.
        if state.wakes_at.map_or(true, |wakes_at| at < wakes_at) {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Nothing is left of the process.
    pub fn remove(&self, process: &Process) {
        let mut state = self.lock();
        if let Some(at) = state.times.remove(&process.id) {
            state.queue.remove(&(at, process.id));
        }
    }

    fn start_thread(self: &Arc<Self>) -> Result<()> {
        let deadlines = Arc::clone(self);
        let builder = thread::Builder::new().stack_size(THREAD_STACK_BYTES);
        builder.spawn(move || deadlines.run()).map(drop).map_err(Error::from)
    }

    fn run(&self) {
        loop {
            let entry = self.wait_due();
            let next = act(&entry);
            if let Some((at, step)) = next {
                let process = entry.process;
                self.lock().insert(at, Entry { process, step });
            }
        }
    }

    fn wait_due(&self) -> Entry {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let first = state.queue.keys().next().copied();
            state.wakes_at = first.map(|(at, _)| at);
            state = match first {
                Some((at, id)) if at <= now => {
                    state.times.remove(&id);
                    if let Some(entry) = state.queue.remove(&(at, id)) {
                        return entry;
                    }
                    state
                }
                Some((at, _)) => {
                    let waited = self.changed.wait_timeout(state, at - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, at: Instant, entry: Entry) {
        let id = entry.process.id;
        self.times.insert(id, at);
        self.queue.insert((at, id), entry);
    }
}

/// Does what is due; what follows it and when.
fn act(entry: &Entry) -> Option<(Instant, Step)> {
    let process = &entry.process;
    match entry.step {
        // A command that ended in time has kept its limit; what it left in the background lives.
        Step::Terminate(_) if process.is_over() => None,
        Step::Terminate(limits) => {
            let due = limits.due(process)?;
            if due > Instant::now() {
                return Some((due, Step::Terminate(limits)));
            }
            process.mark_timed_out();
            // Who cannot be told now is killed after the grace.
            let _ = process.signal(SIGTERM, true);
            // A grace beyond what the clock can say is never over.
            Instant::now().checked_add(limits.grace).map(|at| (at, Step::Kill))
        }
        Step::Kill => match process.kill_tree() {
            Ok(killed) if killed.is_clean => None,
            _ => Some((Instant::now() + RETRY, Step::Kill)),
        },
    }
}
