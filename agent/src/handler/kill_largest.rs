// SPDX-License-Identifier: Apache-2.0
//! `kill_largest`: when the sandbox is about to run out of memory and its host's kernel would end
//! all of it rather than one process.

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::Result;
use crate::message::Record;

pub fn apply(agent: &Agent, connection: &mut Connection) -> Result<()> {
    let signalled = agent.processes.kill_largest()?;
    connection.send_record(Record::done().uint("signalled", signalled))
}
