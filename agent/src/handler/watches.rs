// SPDX-License-Identifier: Apache-2.0
//! `watches`: all that are active, and those that have ended and are still kept.

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::Result;
use crate::message::{Fields, Record};
use crate::watches::change::End;
use crate::watches::changes::nanoseconds;
use crate::watches::watch::Watch;

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    let watches = match fields.number("watch")? {
        Some(number) => vec![agent.watches.find(number)?],
        None => agent.watches.list(),
    };
    // There are few, and each has a path of one page at most: they fit into one frame.
    let records: Vec<Vec<u8>> = watches.iter().map(|watch| render(watch).finish()).collect();
    if !records.is_empty() {
        connection.send_record(Record::event("watches").records("watches", &records))?;
    }
    connection.send_record(Record::done())
}

fn render(watch: &Watch) -> Record {
    let extent = watch.changes.extent();
    Record::new()
        .uint("watch", watch.number)
        .bytes("path", watch.path.bytes())
        .bool("recursive", watch.is_recursive)
        .uint("started_ns", nanoseconds(watch.started_at))
        .uint("first", extent.first)
        .uint("last", extent.last)
        .optional_str("ended", extent.ended.map(End::name))
}
