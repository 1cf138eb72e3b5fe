// SPDX-License-Identifier: Apache-2.0
//! `unwatch`: a watch and its changes are gone, its readers hear of the end.

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::Result;
use crate::handler::watch_number;
use crate::message::{Fields, Record};

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    agent.watches.stop(watch_number(fields)?)?;
    connection.send_record(Record::done())
}
