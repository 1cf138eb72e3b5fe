// SPDX-License-Identifier: Apache-2.0
//! One operation per connection: which one, and that it is spoken to in a generation we know.

pub mod files;
pub mod hello;
pub mod kill_largest;
pub mod signal;
pub mod start;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::message::Fields;

/// The highest, and so far only, generation that this agent speaks.
pub const GENERATION: u64 = 1;

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
    check_generation(&request)?;
    match operation {
        "start" => start::apply(agent, connection, &request),
        "signal" => signal::apply(agent, connection, &request),
        "kill_largest" => kill_largest::apply(agent, connection),
        _ => files::apply(agent, connection, operation, &request),
    }
}

fn check_generation(request: &Fields) -> Result<()> {
    match request.number("generation")? {
        Some(GENERATION) => Ok(()),
        Some(_) => Err(Error::Generation),
        None => Err(Error::Invalid("the request names no generation")),
    }
}
