// SPDX-License-Identifier: Apache-2.0
//! `start`: a request becomes a command, then a session with it.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::io::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::directory::make_directories;
use crate::error::{Error, Result};
use crate::message::{as_bytes, Fields, Record};
use crate::path::{c_string, AbsolutePath};
use crate::process::Process;
use crate::session::Session;
use crate::spawn_unsafe::{Credentials, Launch};
use crate::sys_unsafe::{effective_uid, new_pipe, set_nonblocking};
use crate::users::Account;

const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_GRACE_MS: u64 = 5000;
const NEW_DIRECTORY_MODE: u32 = 0o755;

struct StartRequest {
    argv: Vec<Vec<u8>>,
    directory: Option<AbsolutePath>,
    make_directory: bool,
    env: BTreeMap<Vec<u8>, Vec<u8>>,
    account: Account,
    has_stdin: bool,
    timeout: Option<Duration>,
    grace: Duration,
    tag: Option<String>,
}

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    let request = parse(agent, fields)?;
    let directory = working_directory(&request)?;
    let pipes = Pipes::new(request.has_stdin)?;
    let stdin = pipes.child_stdin.as_ref().map_or(agent.null.as_raw_fd(), AsRawFd::as_raw_fd);
    let launch = plan_launch(&request)?
        .directory(directory, request.directory.is_none())
        .credentials(credentials(agent, &request.account))
        .limits(agent.process_files, agent.has_oom_score)
        .stdio([stdin, pipes.stdout.1.as_raw_fd(), pipes.stderr.1.as_raw_fd()]);
    let process = start(agent, launch, &request)?;
    let mut started = Record::event("started")
        .uint("process", process.id)
        .int("pid", i64::from(process.main_pid()));
    if let Some(tag) = &request.tag {
        started = started.str("tag", tag);
    }
    let (outputs, stdin) = pipes.into_ours();
    Session::new(agent, connection, process, outputs, stdin).run(started);
    Ok(())
}

fn start(agent: &Agent, launch: Launch, request: &StartRequest) -> Result<Arc<Process>> {
    let mut limited = Ok(());
    let starting = agent.processes.order(launch, |process| {
        if let Some(timeout) = request.timeout {
            limited = agent.deadlines.set(process, timeout, request.grace);
        }
    })?;
    let process = starting.wait()?;
    if limited.is_err() {
        // A process that was to have a limit does not run without one.
        let _ = process.kill_tree();
    }
    limited.map(|()| process)
}

fn parse(agent: &Agent, fields: &Fields) -> Result<StartRequest> {
    let account = agent.users.account(fields.bytes("user")?)?;
    Ok(StartRequest {
        argv: parse_argv(fields)?,
        directory: fields.bytes("cwd")?.map(AbsolutePath::parse).transpose()?,
        make_directory: fields.bool("make_cwd", false)?,
        env: parse_env(fields, &account)?,
        account,
        has_stdin: fields.bool("stdin", false)?,
        timeout: fields.number("timeout_ms")?.map(Duration::from_millis),
        grace: Duration::from_millis(fields.number("grace_ms")?.unwrap_or(DEFAULT_GRACE_MS)),
        tag: fields.text("tag")?.map(str::to_owned),
    })
}

fn parse_argv(fields: &Fields) -> Result<Vec<Vec<u8>>> {
    match (fields.array("argv")?, fields.bytes("shell")?) {
        (Some([]), None) => Err(Error::Invalid("argv is empty")),
        (Some(argv), None) => argv.iter().map(|item| as_bytes(item).map(<[u8]>::to_vec)).collect(),
        (None, Some(text)) => Ok(vec![shell().to_vec(), b"-c".to_vec(), text.to_vec()]),
        _ => Err(Error::Invalid("exactly one of argv and shell is needed")),
    }
}

fn shell() -> &'static [u8] {
    if Path::new("/bin/bash").exists() {
        return b"/bin/bash";
    }
    b"/bin/sh"
}

/// The user's own environment, and what the request adds over it.
fn parse_env(fields: &Fields, account: &Account) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let own: [(&[u8], &[u8]); 5] = [
        (b"PATH", DEFAULT_PATH),
        (b"HOME", &account.home),
        (b"USER", &account.name),
        (b"LOGNAME", &account.name),
        (b"SHELL", &account.shell),
    ];
    let mut env: BTreeMap<_, _> =
        own.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    for (name, value) in fields.map("env")? {
        if name.is_empty() || name.contains('=') {
            return Err(Error::Invalid("name of an environment variable"));
        }
        env.insert(name.as_bytes().to_vec(), as_bytes(value)?.to_vec());
    }
    Ok(env)
}

fn plan_launch(request: &StartRequest) -> Result<Launch> {
    let argv: Result<Vec<CString>> = request.argv.iter().map(|item| c_string(item)).collect();
    let pairs = request.env.iter().map(|(name, value)| [name.as_slice(), b"=", value].concat());
    let env: Result<Vec<CString>> = pairs.map(|pair| c_string(&pair)).collect();
    Ok(Launch::new(argv?, env?, plan_candidates(request)?))
}

/// Where `execvp` would look: a name with a slash is a path, any other is sought along `PATH`.
fn plan_candidates(request: &StartRequest) -> Result<Vec<CString>> {
    // `parse_argv` has refused an empty array.
    let program = request.argv.first().map_or(&b""[..], Vec::as_slice);
    if program.is_empty() {
        return Ok(Vec::new());
    }
    if program.contains(&b'/') {
        return Ok(vec![c_string(program)?]);
    }
    let path = request.env.get(&b"PATH"[..]).map_or(DEFAULT_PATH, Vec::as_slice);
    let beneath = |directory: &[u8]| match directory {
        // An empty part of PATH means the working directory.
        b"" => c_string(program),
        _ => c_string(&[directory, b"/", program].concat()),
    };
    path.split(|byte| *byte == b':').map(beneath).collect()
}

/// The directory to enter: the one asked for, else the user's home.
fn working_directory(request: &StartRequest) -> Result<CString> {
    match &request.directory {
        Some(directory) => {
            if request.make_directory {
                let owner = (request.account.uid, request.account.gid);
                make_directories(directory, NEW_DIRECTORY_MODE, owner)
                    .map_err(|error| Error::BadDirectory(error.errno()))?;
            }
            directory.c_string()
        }
        None => c_string(&request.account.home),
    }
}

/// None where the agent is no root and could change nothing, as in tests of an ordinary user.
fn credentials(agent: &Agent, account: &Account) -> Option<Credentials> {
    let keeps_user = effective_uid() == account.uid;
    if effective_uid() != 0 && keeps_user {
        return None;
    }
    let groups = agent.users.groups(account);
    Some(Credentials { uid: account.uid, gid: account.gid, groups, keeps_user })
}

/// The pipes of one process. The child's ends are closed here once it has started.
struct Pipes {
    stdin: Option<OwnedFd>,
    child_stdin: Option<OwnedFd>,
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
}

impl Pipes {
    fn new(has_stdin: bool) -> Result<Pipes> {
        let failed = |error| Error::SpawnFailed(Error::from(error).errno());
        let (child_stdin, stdin) = match has_stdin {
            true => new_pipe().map(|(read, write)| (Some(read), Some(write))).map_err(failed)?,
            false => (None, None),
        };
        if let Some(pipe) = &stdin {
            set_nonblocking(pipe).map_err(failed)?;
        }
        let stdout = new_pipe().map_err(failed)?;
        let stderr = new_pipe().map_err(failed)?;
        for output in [&stdout.0, &stderr.0] {
            set_nonblocking(output).map_err(failed)?;
        }
        Ok(Pipes { stdin, child_stdin, stdout, stderr })
    }

    /// Outputs and input; the child's ends are closed, so that we see its end of file.
    fn into_ours(self) -> ((OwnedFd, OwnedFd), Option<OwnedFd>) {
        ((self.stdout.0, self.stderr.0), self.stdin)
    }
}
