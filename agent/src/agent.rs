// SPDX-License-Identifier: Apache-2.0
//! What all connections share.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::deadline::Deadlines;
use crate::drainer::Drainer;
use crate::history::History;
use crate::ports::exchange::Exchange;
use crate::process::Processes;
use crate::sys_unsafe::Limit;
use crate::users::Users;
use crate::watches::table::Watches;

pub struct Agent {
    pub processes: Processes,
    pub deadlines: Arc<Deadlines>,
    pub history: Arc<History>,
    pub drainer: Arc<Drainer>,
    pub users: Users,
    pub watches: Arc<Watches>,
    pub exchange: Arc<Exchange>,
    /// Opened once: the sandbox may remove or replace `/dev/null` later.
    pub null: File,
    /// The limit of open files that processes get.
    pub process_files: Limit,
    /// Whether the agent was started with an OOM score of its own, which processes must not have.
    pub has_oom_score: bool,
}

impl Agent {
    pub fn new(process_files: Limit) -> io::Result<Agent> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        let history = Arc::new(History::default());
        Ok(Agent {
            processes: Processes::default(),
            deadlines: Arc::default(),
            drainer: Arc::new(Drainer::new(Arc::clone(&history))),
            history,
            users: Users::new(),
            watches: Arc::default(),
            exchange: Arc::default(),
            null,
            process_files,
            has_oom_score: !matches!(score.trim(), "" | "0"),
        })
    }

    /// Reaps what has ended and forgets processes of which nothing is left.
    pub fn reap(&self) {
        for process in self.processes.reap() {
            self.deadlines.remove(&process);
        }
    }
}
