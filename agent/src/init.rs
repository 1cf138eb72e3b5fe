// SPDX-License-Identifier: Apache-2.0
//! The duties of PID 1: signals, reaping, and the state that everything else inherits. Works as any
//! other process too, for tests.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;

use crate::agent::Agent;
use crate::error::{errno, is_errno};
use crate::server::Server;
use crate::sys_unsafe::{
    become_subreaper, close_inherited_files, forbid_tracing, raise_file_limit,
    replace_standard_streams, set_backlog, set_umask, take_over_signals, tune_allocator,
    wait_signal, Limit, SIGCHLD,
};

const BACKLOG: i32 = 1024;
/// The soft limit of open files for processes, where the hard one allows: what desktop and server
/// distributions give at most. Programs that close "all" descriptors one by one stay fast.
const PROCESS_FILES: u64 = 65_536;
const UMASK: u32 = 0o022;
const SOCKET_UMASK: u32 = 0o177;

/// Serves on a socket at `path` until a signal from outside ends the sandbox.
pub fn run(path: &Path) -> io::Result<()> {
    tune_allocator();
    take_over_signals();
    // Best effort: where a kernel refuses these, the agent still works.
    let _ = close_inherited_files();
    let _ = become_subreaper();
    let _ = forbid_tracing();
    let limit = raise_file_limit()?;
    let process_files = Limit { soft: limit.hard.min(PROCESS_FILES), hard: limit.hard };
    let agent = Arc::new(Agent::new(process_files)?);
    Server::start(Arc::clone(&agent), bind(path)?)?;
    announce_ready(&agent)?;
    serve_signals(&agent)
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let removed = fs::remove_file(path);
    if !is_errno(&removed, errno::ENOENT) {
        removed?;
    }
    // No other thread runs yet, so the process-wide mask is ours to change.
    set_umask(SOCKET_UMASK);
    let listener = UnixListener::bind(path)?;
    set_umask(UMASK);
    set_backlog(&listener, BACKLOG)?;
    Ok(listener)
}

/// Tells whoever started us that connections are taken, then lets go of the streams they gave us:
/// nothing of the host stays open in here.
fn announce_ready(agent: &Agent) -> io::Result<()> {
    let mut output = io::stdout();
    // Nobody may be listening any more, which is no reason not to serve.
    let _ = output.write_all(b"ready\n").and_then(|()| output.flush());
    replace_standard_streams(&agent.null)
}

fn serve_signals(agent: &Agent) -> io::Result<()> {
    loop {
        let (signal, sender) = match wait_signal() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if signal == SIGCHLD {
            agent.reap();
        } else if may_end_us(sender) {
            agent.processes.kill_all();
            process::exit(0);
        }
    }
}

/// As PID 1 only who stands outside the sandbox may end it: the kernel shows such a sender as 0.
fn may_end_us(sender: i32) -> bool {
    process::id() != 1 || sender == 0
}

/// The socket's path from the command line.
pub fn parse_arguments(arguments: &[OsString]) -> Option<PathBuf> {
    match arguments {
        [option, path] if option == "--socket" => Some(PathBuf::from(path)),
        _ => None,
    }
}
