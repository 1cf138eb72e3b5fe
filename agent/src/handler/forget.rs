// SPDX-License-Identifier: Apache-2.0
//! `forget`: nothing is known any more of a process that has ended.

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::Result;
use crate::handler::process_id;
use crate::message::{Fields, Record};

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    agent.history.forget(process_id(fields)?)?;
    connection.send_record(Record::done())
}
