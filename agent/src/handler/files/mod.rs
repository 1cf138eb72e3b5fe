// SPDX-License-Identifier: Apache-2.0
//! The operations on files, one per module. All paths are resolved here, inside the sandbox.

mod change;
mod content;
mod copy;
mod entry;
mod list;
mod mkdir;
mod move_;
mod pack;
mod read;
mod remove;
mod stat;
mod unpack;
mod write;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::message::{Fields, Record};
use crate::path::AbsolutePath;

pub fn apply(
    agent: &Agent,
    connection: &mut Connection,
    operation: &str,
    fields: &Fields,
) -> Result<()> {
    let record = match operation {
        "stat" => stat::apply(agent, fields),
        "list" => list::apply(agent, connection, fields),
        "read" => read::apply(agent, connection, fields),
        "write" => write::apply(agent, connection, fields),
        "mkdir" => mkdir::apply(agent, fields),
        "move" => move_::apply(connection, fields),
        "copy" => copy::apply(connection, fields),
        "remove" => remove::apply(connection, fields),
        "chmod" => change::chmod(connection, fields),
        "chown" => change::chown(agent, connection, fields),
        "pack" => pack::apply(connection, fields),
        "unpack" => unpack::apply(agent, connection, fields),
        _ => Err(Error::Unsupported),
    }?;
    connection.send_record(record)
}

fn path_field(fields: &Fields, name: &str) -> Result<AbsolutePath> {
    AbsolutePath::parse(fields.bytes(name)?.ok_or(Error::Invalid("a path is missing"))?)
}

/// Uid and gid of the `user` field; root if there is none.
fn owner_field(agent: &Agent, fields: &Fields) -> Result<(u32, u32)> {
    let account = agent.users.account(fields.bytes("user")?)?;
    Ok((account.uid, account.gid))
}

/// For work that sends nothing for long: stops when the client has gone.
pub struct Cancel<'a> {
    connection: &'a Connection,
    steps: u32,
}

impl<'a> Cancel<'a> {
    const STEPS_PER_LOOK: u32 = 64;

    fn new(connection: &'a Connection) -> Cancel<'a> {
        Cancel { connection, steps: 0 }
    }

    fn step(&mut self) -> Result<()> {
        self.steps = (self.steps + 1) % Cancel::STEPS_PER_LOOK;
        if self.steps == 0 {
            return self.look();
        }
        Ok(())
    }

    fn look(&self) -> Result<()> {
        if self.connection.is_gone() {
            return Err(Error::Closed);
        }
        Ok(())
    }
}

fn done() -> Result<Record> {
    Ok(Record::done())
}
