// SPDX-License-Identifier: Apache-2.0
//! One operation per connection: which one, and that it is spoken to in a generation we know.

pub mod attach;
pub mod changes;
pub mod configure;
pub mod dial;
pub mod ends;
pub mod files;
pub mod forget;
pub mod hello;
pub mod kill_largest;
pub mod ports;
pub mod processes;
pub mod resize;
pub mod signal;
pub mod start;
pub mod stdin;
pub mod unwatch;
pub mod watch;
pub mod watches;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::message::Fields;

/// The highest generation that this agent speaks; it speaks all below it too.
pub const GENERATION: u64 = 4;
/// Has no journals.
pub const FIRST_GENERATION: u64 = 1;
/// The first that watches directories.
pub const WATCHES_GENERATION: u64 = 3;
/// The first that connects to ports.
pub const PORTS_GENERATION: u64 = 4;

pub fn serve(agent: &Agent, mut connection: Connection) {
    if let Err(error) = serve_request(agent, &mut connection) {
        connection.send_error(error);
    }
}

fn serve_request(agent: &Agent, connection: &mut Connection) -> Result<()> {
    let request = connection.receive_request()?;
    let operation = request.text("op")?.ok_or(Error::Invalid("the request names no op"))?;
    // Before the handshake a client cannot know what we speak.
    if operation == "hello" {
        return hello::apply(connection);
    }
    let generation = check_generation(&request)?;
    match operation {
        "start" => start::apply(agent, connection, &request, generation),
        "signal" => signal::apply(agent, connection, &request),
        "kill_largest" => kill_largest::apply(agent, connection),
        _ if generation == FIRST_GENERATION => files::apply(agent, connection, operation, &request),
        "attach" => attach::apply(agent, connection, &request),
        "configure" => configure::apply(agent, connection, &request),
        "ends" => ends::apply(agent, connection),
        "forget" => forget::apply(agent, connection, &request),
        "processes" => processes::apply(agent, connection, &request),
        "resize" => resize::apply(agent, connection, &request),
        "stdin" => stdin::apply(agent, connection, &request),
        _ if generation < WATCHES_GENERATION => {
            files::apply(agent, connection, operation, &request)
        }
        "changes" => changes::apply(agent, connection, &request),
        "unwatch" => unwatch::apply(agent, connection, &request),
        "watch" => watch::apply(agent, connection, &request),
        "watches" => watches::apply(agent, connection, &request),
        _ if generation < PORTS_GENERATION => files::apply(agent, connection, operation, &request),
        "dial" => dial::apply(agent, connection, &request),
        "ports" => ports::apply(connection, &request),
        _ => files::apply(agent, connection, operation, &request),
    }
}

fn check_generation(request: &Fields) -> Result<u64> {
    match request.number("generation")? {
        Some(generation @ FIRST_GENERATION..=GENERATION) => Ok(generation),
        Some(_) => Err(Error::Generation),
        None => Err(Error::Invalid("the request names no generation")),
    }
}

/// The process that a request is about.
fn process_id(fields: &Fields) -> Result<u64> {
    fields.number("process")?.ok_or(Error::Invalid("process is missing"))
}

/// The watch that a request is about.
fn watch_number(fields: &Fields) -> Result<u64> {
    fields.number("watch")?.ok_or(Error::Invalid("watch is missing"))
}

/// The port that a request is about, if it names one.
fn port_number(fields: &Fields) -> Result<Option<u16>> {
    match fields.number("port")?.map(u16::try_from) {
        None => Ok(None),
        Some(Ok(port)) if port > 0 => Ok(Some(port)),
        Some(_) => Err(Error::Invalid("a port is from 1 to 65535")),
    }
}
