// SPDX-License-Identifier: Apache-2.0
//! `ports`: what listens in here, and waiting until something does.

use std::thread;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::handler::port_number;
use crate::message::{Fields, Record};
use crate::ports::listeners::{listeners, Listener, MAX_LISTENERS};
use crate::ports::owners::{owners, Owner};

const MAX_WAIT_MS: u64 = 60_000;
/// No kernel tells when somebody begins to listen, so one has to look.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
const PORTS_IN_A_FRAME: usize = 1024;

pub fn apply(connection: &mut Connection, fields: &Fields) -> Result<()> {
    let port = port_number(fields)?;
    let wait_ms = fields.number("wait_ms")?.unwrap_or(0);
    if wait_ms > MAX_WAIT_MS {
        return Err(Error::Limit("wait_ms is beyond a minute"));
    }
    let mut found = wait_for(connection, port, Duration::from_millis(wait_ms))?;
    let is_cut = found.len() > MAX_LISTENERS;
    found.truncate(MAX_LISTENERS);
    let inodes: Vec<u64> = found.iter().map(|listener| listener.inode).collect();
    let owners = owners(&inodes);
    for some in found.chunks(PORTS_IN_A_FRAME) {
        let render = |one: &Listener| render(one, owners.get(&one.inode)).finish();
        let records: Vec<Vec<u8>> = some.iter().map(render).collect();
        connection.send_record(Record::event("ports").records("ports", &records))?;
    }
    connection.send_record(Record::done().bool("truncated", is_cut))
}

/// What listens, at once or as soon as anything does.
fn wait_for(
    connection: &Connection,
    port: Option<u16>,
    patience: Duration,
) -> Result<Vec<Listener>> {
    let until = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        let found = listeners(port);
        if !found.is_empty() || Instant::now() >= until {
            return Ok(found);
        }
        if connection.is_gone() {
            return Err(Error::Closed);
        }
        thread::sleep(pause);
        pause = LONGEST_PAUSE.min(2 * pause);
    }
}

fn render(listener: &Listener, owner: Option<&Owner>) -> Record {
    Record::new()
        .uint("port", u64::from(listener.port))
        .str("address", &listener.address.to_string())
        .optional_uint("pid", owner.map(|owner| u64::from(owner.pid)))
        .optional_bytes("command", owner.map(|owner| &owner.command[..]))
}
