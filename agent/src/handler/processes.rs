// SPDX-License-Identifier: Apache-2.0
//! `processes`: all that run, and those that have ended and are still kept.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::Result;
use crate::message::{Fields, Record};
use crate::process::Process;
use crate::pty_unsafe::{Size, Terminal};

/// Far below what a control frame may hold, notes included.
const BATCH_BYTES: usize = 64 << 10;

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    let processes = match fields.number("process")? {
        Some(id) => vec![agent.history.find(id)?],
        None => agent.history.list(),
    };
    send_processes(connection, &processes)?;
    connection.send_record(Record::done())
}

/// Their records, in frames of a bounded size.
pub fn send_processes(connection: &mut Connection, processes: &[Arc<Process>]) -> Result<()> {
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    for process in processes {
        let record = process_record(process).finish();
        batch_bytes += record.len();
        batch.push(record);
        if batch_bytes > BATCH_BYTES {
            send(connection, &batch)?;
            batch.clear();
            batch_bytes = 0;
        }
    }
    if !batch.is_empty() {
        send(connection, &batch)?;
    }
    Ok(())
}

fn send(connection: &mut Connection, batch: &[Vec<u8>]) -> Result<()> {
    connection.send_record(Record::event("processes").records("processes", batch))
}

fn process_record(process: &Process) -> Record {
    // Asked before the end of its output, so that the two agree once it has ended.
    let ended = process.ended();
    let (first, end) = process.journal.extent();
    let (code, signal) = ended.map_or((None, None), |ended| ended.exit.parts());
    let timed_out = ended.map_or_else(|| process.has_timed_out(), |ended| ended.timed_out);
    Record::new()
        .uint("process", process.id)
        .int("pid", i64::from(process.main_pid()))
        .optional_str("tag", process.label.tag.as_deref())
        .optional_bytes("note", process.label.note.as_deref())
        .uint("started_ns", nanoseconds(process.started_at))
        .optional_uint("ended_ns", ended.map(|ended| nanoseconds(ended.at)))
        .optional_int("code", code)
        .optional_int("signal", signal)
        .bool("timed_out", timed_out)
        .uint("first", first.position())
        .uint("position", end.position())
        .uint("stdout_bytes", end.stdout)
        .uint("stderr_bytes", end.stderr)
        .bool("stdin", process.stdin.is_open())
        .optional_record("pty", process.terminal.as_ref().map(Terminal::size).map(size_record))
}

fn size_record(size: Size) -> Record {
    Record::new().uint("rows", u64::from(size.rows)).uint("cols", u64::from(size.columns))
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
