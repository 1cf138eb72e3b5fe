// SPDX-License-Identifier: Apache-2.0
//! Moves what a process writes into its journal, and ends the journal with the process. It is driven
//! by whoever polls for it: the session that started the process while its client stays, then the
//! drainer. It never waits.

use std::os::unix::io::{AsRawFd, OwnedFd};
use std::sync::Arc;

use crate::error::Result;
use crate::frame::Kind;
use crate::history::History;
use crate::output::{Output, Took};
use crate::process::Process;
use crate::sys_unsafe::{read_bytes, PollFd, POLLIN};
use crate::waker::Waker;

pub struct Pump {
    process: Arc<Process>,
    /// Held, because the process lets go of it when nothing is left of it.
    event: Option<Arc<OwnedFd>>,
    stdout: Output,
    stderr: Output,
    is_finished: bool,
}

/// What a pump waits for: the process's event and its two outputs.
pub type Waits = [PollFd; 3];

impl Pump {
    pub fn new(process: &Arc<Process>, stdout: Output, stderr: Output) -> Pump {
        let (process, event) = (Arc::clone(process), process.event());
        Pump { process, event, stdout, stderr, is_finished: false }
    }

    /// What to poll for. While readers must make room first `waker` hears when they have; whether
    /// that of the caller is behind it knows itself.
    pub fn waits(&self, waker: Option<&Waker>, is_behind: bool) -> Waits {
        if self.process.journal.is_stalled() {
            // It could not write, and must not be found idle in the moment in which it can again.
            self.process.note_output();
        }
        let can_read = self.is_finished || self.process.journal.has_room(waker, is_behind);
        let event = self.event.as_ref().filter(|_| !self.is_finished);
        let entry = |fd| PollFd { fd, events: POLLIN, revents: 0 };
        let output = |output: &Output| entry(if can_read { output.fd() } else { -1 });
        [
            entry(event.map_or(-1, |event| event.as_raw_fd())),
            output(&self.stdout),
            output(&self.stderr),
        ]
    }

    /// Reads what is ready, while the process runs.
    pub fn read(&mut self, ready: &Waits) -> Result<Took> {
        let [event, stdout, stderr] = ready.map(|fd| fd.revents != 0);
        if let (Some(event), true) = (&self.event, event) {
            let mut count = [0u8; 8];
            // It is readable, and nobody else reads it.
            let _ = read_bytes(&**event, &mut count);
        }
        let mut took = Took::Nothing;
        if stdout {
            took = self.stdout.read(&self.process.journal)?;
        }
        if stderr {
            took = took.max(self.stderr.read(&self.process.journal)?);
        }
        if took > Took::Nothing {
            self.process.note_output();
        }
        Ok(took)
    }

    /// Once the process has ended: takes what its pipes hold, and ends its journal. False while it
    /// runs.
    pub fn finish(&mut self, history: &History) -> bool {
        let exit = match self.process.exit() {
            Some(exit) => exit,
            None => return self.is_finished,
        };
        if !self.is_finished {
            self.is_finished = true;
            // What cannot be read is not there.
            let _ = self.stdout.read_held(&self.process.journal);
            let _ = self.stderr.read_held(&self.process.journal);
            history.finish(&self.process, exit);
        }
        true
    }

    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether the process has ended without our having finished it.
    pub fn has_news(&self) -> bool {
        !self.is_finished && self.process.exit().is_some()
    }

    /// Discards what is ready, which children of an ended process have written.
    pub fn discard(&mut self, ready: &Waits, buffer: &mut [u8]) {
        if ready[1].revents != 0 {
            self.stdout.discard(buffer);
        }
        if ready[2].revents != 0 {
            self.stderr.discard(buffer);
        }
    }

    /// What failed cannot be read any more.
    pub fn close_outputs(&mut self) {
        self.stdout = Output::closed(Kind::Stdout);
        self.stderr = Output::closed(Kind::Stderr);
    }

    /// Whether nothing is left to do. Looks at the pipes themselves.
    pub fn is_over(&mut self) -> bool {
        if self.is_finished {
            self.stdout.close_if_over();
            self.stderr.close_if_over();
        }
        self.has_nothing()
    }

    /// The same as far as it is known.
    pub fn has_nothing(&self) -> bool {
        self.is_finished && !self.stdout.is_open() && !self.stderr.is_open()
    }
}
