// SPDX-License-Identifier: Apache-2.0
//! `dial`: a connection to a port in here. After the answer the client's connection is that one.

use std::os::unix::io::OwnedFd;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::handler::port_number;
use crate::message::{Fields, Record};
use crate::ports::dial::connect;

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    let port = port_number(fields)?.ok_or(Error::Invalid("port is missing"))?;
    agent.exchange.check_room()?;
    let program = connect(port)?;
    let address = program.peer_addr()?.ip().to_string();
    connection.send_record(Record::event("connected").str("address", &address))?;
    let (client, early) = connection.detach()?;
    agent.exchange.adopt(OwnedFd::from(client), OwnedFd::from(program), early)
}
