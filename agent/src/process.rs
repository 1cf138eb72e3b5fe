// SPDX-License-Identifier: Apache-2.0
//! Commands as objects: starting, their state, signals to one or to the whole tree, and what each has
//! of its own. Moving output is not their business (`pump.rs`), nor is time (`deadline.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::io::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::error::{errno, Error, Result};
use crate::journal::Journal;
use crate::pty_unsafe::Terminal;
use crate::spawn_unsafe::{
    Launch, Nursery, Ordered, Reaped, Report, STAGE_DIRECTORY, STAGE_EXEC, STATE_ADOPTED,
    STATE_EXITED, STATE_FAILED,
};
use crate::stdin::Stdin;
use crate::sys_unsafe::{send_signal, SIGKILL, SIGSTOP};
use crate::tree::{live_descendants, resident_pages};

/// How long one kill goes on freezing and killing a tree that keeps forking.
const SWEEP_TIME: Duration = Duration::from_secs(2);
const SWEEP_PAUSE: Duration = Duration::from_millis(1);

/// One command, from its order until nothing of its tree is left and nobody asks about it.
pub struct Process {
    pub id: u64,
    pub started: Instant,
    pub started_at: SystemTime,
    pub label: Label,
    pub journal: Journal,
    pub stdin: Stdin,
    pub terminal: Option<Terminal>,
    report: Arc<Report>,
    supervisor: AtomicI32,
    timed_out: AtomicBool,
    /// After `started`, in microseconds.
    last_output_us: AtomicU64,
    ended: Mutex<Option<Ended>>,
}

/// What its client has said of a command, for itself.
#[derive(Default)]
pub struct Label {
    pub tag: Option<String>,
    pub note: Option<Vec<u8>>,
}

/// What a command is given for itself.
pub struct Belongings {
    pub label: Label,
    pub journal: Journal,
    pub stdin: Stdin,
    pub terminal: Option<Terminal>,
}

/// The end of a command whose output has been read.
#[derive(Clone, Copy)]
pub struct Ended {
    pub exit: Exit,
    pub timed_out: bool,
    pub duration: Duration,
    pub at: SystemTime,
}

/// How a command ended: exactly one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// Code and signal.
    pub fn parts(self) -> (Option<i32>, Option<i32>) {
        match self {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
        }
    }
}

impl Process {
    pub fn main_pid(&self) -> i32 {
        self.report.main_pid()
    }

    /// None while the command runs.
    pub fn exit(&self) -> Option<Exit> {
        if self.report.state() != STATE_EXITED {
            return None;
        }
        let status = self.report.wait_status();
        match status & 0x7f {
            0 => Some(Exit::Code(status >> 8 & 0xff)),
            signal => Some(Exit::Signal(signal)),
        }
    }

    /// Whether the command has ended or never ran; some of its tree may live on.
    pub fn is_over(&self) -> bool {
        matches!(self.report.state(), STATE_EXITED | STATE_FAILED)
    }

    /// Becomes readable when `exit` may have changed. None once it is final.
    pub fn event(&self) -> Option<Arc<OwnedFd>> {
        self.report.event()
    }

    pub fn note_output(&self) {
        self.last_output_us.store(micros(self.started.elapsed()), Ordering::Relaxed);
    }

    /// When it last wrote something. One that waits for its readers could not have.
    pub fn last_output(&self) -> Instant {
        if self.journal.is_stalled() {
            return Instant::now();
        }
        let last = Duration::from_micros(self.last_output_us.load(Ordering::Relaxed));
        self.started + last
    }

    /// Its journal holds all that it wrote: it takes no more input, and its readers may go.
    pub fn finish(&self, exit: Exit) {
        let ended = Ended {
            exit,
            timed_out: self.has_timed_out(),
            duration: self.started.elapsed(),
            at: SystemTime::now(),
        };
        *self.lock_ended() = Some(ended);
        self.stdin.close();
        self.terminal.iter().for_each(Terminal::close);
        self.journal.complete();
    }

    /// None until it is finished.
    pub fn ended(&self) -> Option<Ended> {
        *self.lock_ended()
    }

    fn lock_ended(&self) -> MutexGuard<'_, Option<Ended>> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn mark_timed_out(&self) {
        self.timed_out.store(true, Ordering::SeqCst);
    }

    pub fn has_timed_out(&self) -> bool {
        self.timed_out.load(Ordering::SeqCst)
    }

    /// Sends to the command alone, then to its whole tree if asked; how many were reached.
    pub fn signal(&self, signal: i32, tree: bool) -> Result<u64> {
        if tree && signal == SIGKILL {
            return self.kill_tree().map(|killed| killed.reached);
        }
        if tree {
            let reached = self.send_to_tree(signal, Instant::now() + SWEEP_TIME)?;
            return Ok(reached.len() as u64);
        }
        if self.is_over() || self.main_pid() == 0 {
            return Err(Error::UnknownProcess);
        }
        Ok(send_to_all(&[self.main_pid()], signal))
    }

    /// Kills every descendant, however fast it forks: all are stopped first, until no new ones
    /// appear, and only then killed. A killed parent's children would otherwise slip away between
    /// two looks.
    pub fn kill_tree(&self) -> Result<Killed> {
        let until = Instant::now() + SWEEP_TIME;
        let mut reached = self.send_to_tree(SIGSTOP, until)?;
        loop {
            let left = self.live_tree()?;
            let is_clean = left.is_empty();
            send_to_all(&left, SIGKILL);
            reached.extend(left);
            if is_clean || Instant::now() > until {
                return Ok(Killed { reached: reached.len() as u64, is_clean });
            }
            thread::sleep(SWEEP_PAUSE);
        }
    }

    /// Sends to every descendant once, until no new ones appear: what forks while we look has
    /// children that we have not seen.
    fn send_to_tree(&self, signal: i32, until: Instant) -> Result<BTreeSet<i32>> {
        let mut reached = BTreeSet::new();
        loop {
            let mut new = self.live_tree()?;
            new.retain(|pid| !reached.contains(pid));
            let is_last = new.is_empty() || Instant::now() > until;
            send_to_all(&new, signal);
            reached.extend(new);
            if is_last {
                return Ok(reached);
            }
        }
    }

    fn live_tree(&self) -> Result<Vec<i32>> {
        let supervisor = self.supervisor.load(Ordering::SeqCst);
        if supervisor != 0 {
            return Ok(live_descendants(&[supervisor])?);
        }
        if self.report.state() != STATE_ADOPTED {
            return Ok(Vec::new());
        }
        // The supervisor was killed from inside: what is still below the command is reached.
        let mut tree = live_descendants(&[self.main_pid()])?;
        tree.push(self.main_pid());
        Ok(tree)
    }
}

pub struct Killed {
    pub reached: u64,
    pub is_clean: bool,
}

fn send_to_all(pids: &[i32], signal: i32) -> u64 {
    // One that has ended meanwhile was not reached, which is no failure. Pids are above 0 here, so
    // this can never address a group.
    pids.iter().filter(|pid| send_signal(**pid, signal).is_ok()).count() as u64
}

/// All commands of which something is left.
#[derive(Default)]
pub struct Processes {
    nursery: Nursery,
    table: Mutex<BTreeMap<u64, Arc<Process>>>,
    last_id: AtomicU64,
}

/// A process whose exec has not been confirmed yet.
pub struct Starting {
    pub process: Arc<Process>,
    ordered: Ordered,
}

impl Processes {
    /// Orders a command. It is in the table at once, so that a deadline can already reach it.
    /// `on_listed` hears of it before it can have been reaped. Lock order: the nursery's, then the
    /// table's, then whatever `on_listed` takes.
    pub fn order(
        &self,
        launch: Launch,
        belongings: Belongings,
        on_listed: impl FnOnce(&Arc<Process>),
    ) -> Result<Starting> {
        let report = Arc::new(Report::new().map_err(spawn_failed)?);
        let process = Arc::new(Process {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            started: Instant::now(),
            started_at: SystemTime::now(),
            label: belongings.label,
            journal: belongings.journal,
            stdin: belongings.stdin,
            terminal: belongings.terminal,
            report: Arc::clone(&report),
            supervisor: AtomicI32::new(0),
            timed_out: AtomicBool::new(false),
            last_output_us: AtomicU64::new(0),
            ended: Mutex::new(None),
        });
        let list = |supervisor| {
            process.supervisor.store(supervisor, Ordering::SeqCst);
            self.lock().insert(process.id, Arc::clone(&process));
            on_listed(&process);
        };
        let ordered = self.nursery.order(launch, &report, list).map_err(spawn_failed)?;
        Ok(Starting { process, ordered })
    }

    pub fn find(&self, id: u64) -> Result<Arc<Process>> {
        self.lock().get(&id).cloned().ok_or(Error::UnknownProcess)
    }

    /// Reaps all that have ended, and returns the processes of which nothing is left now.
    pub fn reap(&self) -> Vec<Arc<Process>> {
        let mut gone = Vec::new();
        // An error is ECHILD: no children at all.
        while let Ok(Some(reaped)) = self.nursery.reap() {
            gone.extend(self.settle(&reaped));
        }
        gone
    }

    /// Kills the process that holds most memory, of all that were started here and what descends
    /// from them. How many that were: one, or none.
    pub fn kill_largest(&self) -> Result<u64> {
        let all: Vec<_> = self.lock().values().cloned().collect();
        let mut live = Vec::new();
        for process in all {
            live.extend(process.live_tree()?);
        }
        let largest = live.into_iter().max_by_key(|pid| resident_pages(*pid));
        Ok(largest.map_or(0, |pid| send_to_all(&[pid], SIGKILL)))
    }

    pub fn kill_all(&self) {
        let all: Vec<_> = self.lock().values().cloned().collect();
        for process in all {
            // We are about to exit; what cannot be killed now goes with the pid namespace.
            let _ = process.kill_tree();
        }
    }

    fn settle(&self, reaped: &Reaped) -> Option<Arc<Process>> {
        let mut table = self.lock();
        let is_it = |process: &&Arc<Process>| {
            let supervisor = process.supervisor.load(Ordering::SeqCst);
            let is_adopted = || process.exit().is_none() && process.main_pid() == reaped.pid;
            supervisor == reaped.pid || is_adopted()
        };
        let process = table.values().find(is_it).cloned()?;
        if process.supervisor.load(Ordering::SeqCst) == reaped.pid {
            process.supervisor.store(0, Ordering::SeqCst);
        } else {
            process.report.set_exited(reaped.wait_status);
        }
        if process.is_over() && process.supervisor.load(Ordering::SeqCst) == 0 {
            process.report.close_event();
            return table.remove(&process.id);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Process>>> {
        // A panic ends the whole program, so a poisoned lock is never seen.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Starting {
    /// Waits for exec; an error means that nothing runs.
    pub fn wait(self) -> Result<Arc<Process>> {
        let process = self.process;
        self.ordered.wait();
        match process.report.state() {
            STATE_FAILED => Err(start_error(process.report.failure())),
            // The supervisor was killed before it could report. If its command exists it is ours
            // now, and should its exec fail, it ends with 127.
            STATE_ADOPTED if process.main_pid() == 0 => Err(Error::SpawnFailed(0)),
            _ => Ok(process),
        }
    }
}

/// Enough for half a million years.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn spawn_failed(error: std::io::Error) -> Error {
    Error::SpawnFailed(error.raw_os_error().unwrap_or(errno::EIO))
}

fn start_error((stage, number): (i32, i32)) -> Error {
    match (stage, number) {
        (STAGE_DIRECTORY, _) => Error::BadDirectory(number),
        (STAGE_EXEC, errno::ENOENT) | (STAGE_EXEC, errno::ENOTDIR) => {
            Error::ProgramNotFound(number)
        }
        (STAGE_EXEC, errno::E2BIG) | (STAGE_EXEC, errno::ENOMEM) | (STAGE_EXEC, errno::EAGAIN) => {
            Error::SpawnFailed(number)
        }
        (STAGE_EXEC, _) => Error::ProgramNotExecutable(number),
        _ => Error::SpawnFailed(number),
    }
}
