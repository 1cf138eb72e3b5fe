// SPDX-License-Identifier: Apache-2.0
//! What a process reads from and writes to: three pipes, or a terminal in their place.

use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};

use crate::error::{Error, Result};
use crate::frame::Kind;
use crate::output::Output;
use crate::pty_unsafe::{open_terminal, Ends, Size, Terminal};
use crate::stdin::Stdin;
use crate::sys_unsafe::{new_pipe, set_nonblocking};

/// Both ends. The process's are to be closed here once it has started, so that we see its end of
/// file.
pub struct Stdio {
    pub stdin: Stdin,
    pub terminal: Option<Terminal>,
    pub outputs: (Output, Output),
    pub theirs: Theirs,
}

/// The process's ends.
pub struct Theirs {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
}

impl Theirs {
    /// For the process's descriptors 0, 1 and 2; without an input it gets `null`.
    pub fn fds(&self, null: RawFd) -> [RawFd; 3] {
        let stdout = self.stdout.as_raw_fd();
        let stdin = self.stdin.as_ref().map_or(null, AsRawFd::as_raw_fd);
        [stdin, stdout, self.stderr.as_ref().map_or(stdout, AsRawFd::as_raw_fd)]
    }
}

impl Stdio {
    pub fn pipes(has_stdin: bool) -> Result<Stdio> {
        let failed = |error| Error::SpawnFailed(Error::from(error).errno());
        let (stdin, their_stdin) = match has_stdin {
            true => {
                let (read, write) = new_pipe().map_err(failed)?;
                set_nonblocking(&write).map_err(failed)?;
                (Stdin::pipe(write), Some(read))
            }
            false => (Stdin::none(), None),
        };
        let (stdout, their_stdout) = new_pipe().map_err(failed)?;
        let (stderr, their_stderr) = new_pipe().map_err(failed)?;
        for output in [&stdout, &stderr] {
            set_nonblocking(output).map_err(failed)?;
        }
        Ok(Stdio {
            stdin,
            terminal: None,
            outputs: (Output::new(stdout, Kind::Stdout), Output::new(stderr, Kind::Stderr)),
            theirs: Theirs { stdin: their_stdin, stdout: their_stdout, stderr: Some(their_stderr) },
        })
    }

    pub fn terminal(size: Size, uid: u32) -> Result<Stdio> {
        let failed = |error| Error::SpawnFailed(Error::from(error).errno());
        let Ends { master, slave, tells_size } = open_terminal(size, uid).map_err(failed)?;
        let stdin = Stdin::terminal(master.try_clone().map_err(failed)?);
        let terminal = Terminal::new(master.try_clone().map_err(failed)?, size, tells_size);
        let their_stdin = slave.try_clone().map_err(failed)?;
        Ok(Stdio {
            stdin,
            terminal: Some(terminal),
            outputs: (Output::of_terminal(master), Output::closed(Kind::Stderr)),
            theirs: Theirs { stdin: Some(their_stdin), stdout: slave, stderr: None },
        })
    }
}
