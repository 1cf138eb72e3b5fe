// SPDX-License-Identifier: Apache-2.0
//! `start`: a request becomes a command, then a session with it.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::io::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::deadline::Limits;
use crate::directory::make_directories;
use crate::error::{Error, Result};
use crate::handler::resize::parse_size;
use crate::handler::FIRST_GENERATION;
use crate::journal::Journal;
use crate::log::{DEFAULT_JOURNAL_BYTES, MAX_JOURNAL_BYTES};
use crate::message::{as_bytes, Fields, Record};
use crate::path::{c_string, AbsolutePath};
use crate::process::{Belongings, Label, Process};
use crate::pty_unsafe::Size;
use crate::pump::Pump;
use crate::reader::Reader;
use crate::session::Session;
use crate::spawn_unsafe::{Credentials, Launch};
use crate::stdio::Stdio;
use crate::sys_unsafe::effective_uid;
use crate::users::Account;

const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_GRACE_MS: u64 = 5000;
const NEW_DIRECTORY_MODE: u32 = 0o755;
const MAX_NOTE_BYTES: usize = 16 << 10;
const TERMINAL_NAME: &[u8] = b"xterm-256color";

struct StartRequest {
    argv: Vec<Vec<u8>>,
    directory: Option<AbsolutePath>,
    make_directory: bool,
    env: BTreeMap<Vec<u8>, Vec<u8>>,
    account: Account,
    has_stdin: bool,
    limits: Limits,
    label: Label,
    later: Later,
}

/// What generation 2 has added; nothing of it for a client of generation 1.
struct Later {
    journal: Journal,
    keeps_stdin: bool,
    terminal: Option<Size>,
    detaches: bool,
}

pub fn apply(
    agent: &Agent,
    connection: &mut Connection,
    fields: &Fields,
    generation: u64,
) -> Result<()> {
    let request = parse(agent, fields, generation)?;
    let directory = working_directory(&request)?;
    let stdio = match request.later.terminal {
        Some(size) => Stdio::terminal(size, request.account.uid)?,
        None => Stdio::pipes(request.has_stdin)?,
    };
    let has_terminal = stdio.terminal.is_some();
    let launch = plan_launch(&request)?
        .directory(directory, request.directory.is_none())
        .credentials(credentials(agent, &request.account))
        .limits(agent.process_files, agent.has_oom_score)
        .stdio(stdio.theirs.fds(agent.null.as_raw_fd()), has_terminal);
    // A terminal has no end of file that we could give it.
    let ends_input = request.has_stdin && !request.later.keeps_stdin && !has_terminal;
    let detaches = request.later.detaches;
    let Stdio { stdin, terminal, outputs, theirs } = stdio;
    let Later { journal, .. } = request.later;
    let belongings = Belongings { label: request.label, journal, stdin, terminal };
    let process = start(agent, launch, belongings, request.limits)?;
    drop(theirs);
    let pump = Pump::new(&process, outputs.0, outputs.1);
    let started = started_record(&process);
    if detaches {
        if ends_input {
            process.stdin.close();
        }
        agent.drainer.adopt(pump);
        return connection.send_record(started);
    }
    let (reader, _) = Reader::open(&process, None, true)?;
    let session = Session::new(agent, connection, process, reader, started);
    let session = session.with_pump(pump, ends_input);
    match generation {
        FIRST_GENERATION => session.patient().run(),
        _ => session.run(),
    }
    Ok(())
}

fn started_record(process: &Process) -> Record {
    let started = Record::event("started")
        .uint("process", process.id)
        .int("pid", i64::from(process.main_pid()));
    match &process.label.tag {
        Some(tag) => started.str("tag", tag),
        None => started,
    }
}

fn start(
    agent: &Agent,
    launch: Launch,
    belongings: Belongings,
    limits: Limits,
) -> Result<Arc<Process>> {
    let mut limited = Ok(());
    let starting = agent.processes.order(launch, belongings, |process| {
        limited = agent.deadlines.set(process, limits);
    })?;
    let process = starting.wait()?;
    if limited.is_err() {
        // A process that was to have a limit does not run without one.
        let _ = process.kill_tree();
    }
    limited?;
    agent.history.add(&process);
    Ok(process)
}

fn parse(agent: &Agent, fields: &Fields, generation: u64) -> Result<StartRequest> {
    let account = agent.users.account(fields.bytes("user")?)?;
    let mut request = StartRequest {
        argv: parse_argv(fields)?,
        directory: fields.bytes("cwd")?.map(AbsolutePath::parse).transpose()?,
        make_directory: fields.bool("make_cwd", false)?,
        env: parse_env(fields, &account)?,
        account,
        has_stdin: fields.bool("stdin", false)?,
        limits: Limits {
            timeout: fields.number("timeout_ms")?.map(Duration::from_millis),
            idle: None,
            grace: Duration::from_millis(fields.number("grace_ms")?.unwrap_or(DEFAULT_GRACE_MS)),
        },
        label: Label { tag: fields.text("tag")?.map(str::to_owned), note: None },
        later: Later {
            journal: Journal::brief(),
            keeps_stdin: false,
            terminal: None,
            detaches: false,
        },
    };
    if generation > FIRST_GENERATION {
        parse_later(&mut request, fields)?;
    }
    Ok(request)
}

fn parse_later(request: &mut StartRequest, fields: &Fields) -> Result<()> {
    request.limits.idle = fields.number("idle_ms")?.map(Duration::from_millis);
    request.label.note = fields.bytes("note")?.map(<[u8]>::to_vec);
    if request.label.note.as_ref().map_or(false, |note| note.len() > MAX_NOTE_BYTES) {
        return Err(Error::Limit("note is longer than 16 KiB"));
    }
    let journal_bytes = fields.number("journal_bytes")?.unwrap_or(DEFAULT_JOURNAL_BYTES);
    if journal_bytes > MAX_JOURNAL_BYTES {
        return Err(Error::Limit("journal_bytes is beyond 1 GiB"));
    }
    request.later = Later {
        journal: Journal::new(journal_bytes),
        keeps_stdin: fields.bool("keep_stdin", false)?,
        terminal: fields.record("pty")?.as_ref().map(parse_size).transpose()?,
        detaches: fields.bool("detach", false)?,
    };
    if request.later.terminal.is_some() {
        request.env.entry(b"TERM".to_vec()).or_insert_with(|| TERMINAL_NAME.to_vec());
    }
    Ok(())
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
