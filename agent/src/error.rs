// SPDX-License-Identifier: Apache-2.0
//! Everything that can go wrong, and the stable code under which the server hears of it.

use std::fmt;
use std::io;

/// Linux error numbers that this crate decides by; the same on x86-64 and aarch64.
pub mod errno {
    pub const EPERM: i32 = 1;
    pub const ENOENT: i32 = 2;
    pub const EINTR: i32 = 4;
    pub const EIO: i32 = 5;
    pub const E2BIG: i32 = 7;
    pub const ENOEXEC: i32 = 8;
    pub const ECHILD: i32 = 10;
    pub const EAGAIN: i32 = 11;
    pub const ENOMEM: i32 = 12;
    pub const EACCES: i32 = 13;
    pub const EBUSY: i32 = 16;
    pub const EEXIST: i32 = 17;
    pub const EXDEV: i32 = 18;
    pub const ENODEV: i32 = 19;
    pub const ENOTDIR: i32 = 20;
    pub const EISDIR: i32 = 21;
    pub const EINVAL: i32 = 22;
    pub const EMFILE: i32 = 24;
    pub const ENFILE: i32 = 23;
    pub const ETXTBSY: i32 = 26;
    pub const ENOSPC: i32 = 28;
    pub const EROFS: i32 = 30;
    pub const EPIPE: i32 = 32;
    pub const ENAMETOOLONG: i32 = 36;
    pub const ENOSYS: i32 = 38;
    pub const ENOTEMPTY: i32 = 39;
    pub const ELOOP: i32 = 40;
    pub const EOPNOTSUPP: i32 = 95;
    pub const EAFNOSUPPORT: i32 = 97;
    pub const EADDRNOTAVAIL: i32 = 99;
    pub const ENETUNREACH: i32 = 101;
    pub const ECONNRESET: i32 = 104;
    pub const ECONNREFUSED: i32 = 111;
    pub const EHOSTUNREACH: i32 = 113;
    pub const EDQUOT: i32 = 122;
}

pub type Result<T> = std::result::Result<T, Error>;

/// Texts are fixed: nothing that a peer sent is ever built into a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The request, a frame or an archive is malformed.
    Invalid(&'static str),
    /// A named limit of the protocol or of this program was passed.
    Limit(&'static str),
    Unsupported,
    Generation,
    UnknownUser,
    /// No process of that id, or nothing is left of it.
    UnknownProcess,
    /// No watch of that number, or it is no longer kept.
    UnknownWatch,
    /// The process still runs, so it cannot be forgotten.
    ProcessRuns,
    /// The process takes no input, or none any more.
    StdinClosed,
    /// A reader took nothing for too long.
    Slow,
    BadDirectory(i32),
    ProgramNotFound(i32),
    ProgramNotExecutable(i32),
    SpawnFailed(i32),
    /// A path names something that is neither file nor directory, where a file is needed.
    NotAFile,
    /// Nothing listens on the port.
    Refused,
    /// Whoever listens on the port has not taken the connection for too long.
    PortBusy,
    /// A system call failed with this error number.
    System(i32),
    /// The client has gone: there is nobody to tell, work stops.
    Closed,
}

impl Error {
    pub fn code(self) -> &'static str {
        match self {
            Error::Invalid(_) => "invalid",
            Error::Limit(_) => "limit",
            Error::Unsupported => "unsupported",
            Error::Generation => "generation",
            Error::UnknownUser => "unknown_user",
            Error::UnknownProcess | Error::UnknownWatch => "not_found",
            Error::ProcessRuns | Error::PortBusy => "busy",
            Error::Refused => "refused",
            Error::StdinClosed => "stdin_closed",
            Error::Slow => "slow",
            Error::BadDirectory(_) => "bad_directory",
            Error::ProgramNotFound(_) => "program_not_found",
            Error::ProgramNotExecutable(_) => "program_not_executable",
            Error::SpawnFailed(_) => "spawn_failed",
            Error::NotAFile => "not_a_file",
            Error::System(number) => system_code(number),
            Error::Closed => "io",
        }
    }

    pub fn errno(self) -> i32 {
        match self {
            Error::BadDirectory(number)
            | Error::ProgramNotFound(number)
            | Error::ProgramNotExecutable(number)
            | Error::SpawnFailed(number)
            | Error::System(number) => number,
            _ => 0,
        }
    }
}

fn system_code(number: i32) -> &'static str {
    match number {
        errno::ENOENT => "not_found",
        errno::EEXIST => "exists",
        errno::ENOTDIR => "not_a_directory",
        errno::EISDIR => "is_a_directory",
        errno::ENOTEMPTY => "not_empty",
        errno::EACCES | errno::EPERM => "permission_denied",
        errno::ENOSPC | errno::EDQUOT => "no_space",
        errno::ENAMETOOLONG => "name_too_long",
        errno::ELOOP => "loop",
        errno::EROFS => "read_only",
        errno::EBUSY | errno::ETXTBSY => "busy",
        errno::EXDEV => "cross_device",
        _ => "io",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid(what) | Error::Limit(what) => out.write_str(what),
            Error::Unsupported => out.write_str("this agent does not know the operation"),
            Error::Generation => out.write_str("this agent does not speak the generation"),
            Error::UnknownUser => out.write_str("the user or group does not exist here"),
            Error::UnknownProcess => out.write_str("no such process"),
            Error::UnknownWatch => out.write_str("no such watch"),
            Error::ProcessRuns => out.write_str("the process has not ended"),
            Error::StdinClosed => out.write_str("the process takes no input"),
            Error::Slow => out.write_str("the output was not taken for too long"),
            Error::BadDirectory(_) => out.write_str("the working directory cannot be entered"),
            Error::ProgramNotFound(_) => out.write_str("the program was not found"),
            Error::ProgramNotExecutable(_) => out.write_str("the program cannot be executed"),
            Error::SpawnFailed(_) => out.write_str("the process could not be made"),
            Error::NotAFile => out.write_str("not a regular file"),
            Error::Refused => out.write_str("nothing listens on the port"),
            Error::PortBusy => out.write_str("the port takes no connections at the moment"),
            Error::System(number) => {
                let text = io::Error::from_raw_os_error(*number).to_string();
                out.write_str(text.split(" (os error").next().unwrap_or("system error"))
            }
            Error::Closed => out.write_str("the connection was closed"),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::System(error.raw_os_error().unwrap_or(errno::EIO))
    }
}

/// Whether a system call failed with exactly this number.
pub fn is_errno<T>(result: &io::Result<T>, number: i32) -> bool {
    matches!(result, Err(error) if error.raw_os_error() == Some(number))
}
