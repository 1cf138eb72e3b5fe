// SPDX-License-Identifier: Apache-2.0
//! `attach`: a process's output from some position on, and what follows.

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::Result;
use crate::handler::process_id;
use crate::message::{Fields, Record};
use crate::reader::Reader;
use crate::session::Session;

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    let (since, follows) = (fields.number("since")?, fields.bool("follow", true)?);
    let process = agent.history.find(process_id(fields)?)?;
    let (reader, beginning) = Reader::open(&process, since, follows)?;
    let attached = Record::event("attached")
        .uint("process", process.id)
        .int("pid", i64::from(process.main_pid()))
        .uint("position", beginning.place.position())
        .uint("stdout", beginning.place.stdout)
        .uint("stderr", beginning.place.stderr)
        .uint("dropped", beginning.dropped);
    let session = Session::new(agent, connection, process, reader, attached);
    session.with_frames(&beginning.cut).run();
    Ok(())
}
