// SPDX-License-Identifier: Apache-2.0
//! `signal`: to a process or its whole tree, from any connection.

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::message::{Fields, Record};
use crate::sys_unsafe::LAST_SIGNAL;

pub struct SignalRequest {
    pub signal: i32,
    pub tree: bool,
}

impl SignalRequest {
    pub fn parse(fields: &Fields) -> Result<SignalRequest> {
        let number = fields.number("signal")?.ok_or(Error::Invalid("signal is missing"))?;
        let signal = i32::try_from(number).ok().filter(|signal| *signal <= LAST_SIGNAL);
        let signal = signal.ok_or(Error::Invalid("no such signal"))?;
        Ok(SignalRequest { signal, tree: fields.bool("tree", false)? })
    }
}

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    let request = SignalRequest::parse(fields)?;
    let id = fields.number("process")?.ok_or(Error::Invalid("process is missing"))?;
    let signalled = agent.processes.find(id)?.signal(request.signal, request.tree)?;
    if signalled == 0 {
        return Err(Error::UnknownProcess);
    }
    connection.send_record(Record::done().uint("signalled", signalled))
}
