// SPDX-License-Identifier: Apache-2.0
//! `configure`: how many processes that have ended are kept, and how long.

use std::time::Duration;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::message::{Fields, Record};

const MAX_KEEP_ENDED: usize = 10_000;

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    let keep = match fields.number("keep_ended")? {
        Some(keep) => Some(
            usize::try_from(keep)
                .ok()
                .filter(|keep| *keep <= MAX_KEEP_ENDED)
                .ok_or(Error::Invalid("keep_ended is beyond 10000"))?,
        ),
        None => None,
    };
    let keep_time = fields.number("keep_ended_ms")?.map(Duration::from_millis);
    agent.history.configure(keep, keep_time);
    connection.send_record(Record::done())
}
