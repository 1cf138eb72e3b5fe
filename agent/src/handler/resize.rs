// SPDX-License-Identifier: Apache-2.0
//! `resize`: the size of a process's terminal. The kernel tells the processes in its foreground; where
//! it does not, all of the tree are told, which ignore it unless they have asked for it.

use crate::agent::Agent;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::handler::process_id;
use crate::message::{Fields, Record};
use crate::pty_unsafe::Size;
use crate::sys_unsafe::SIGWINCH;

/// `rows` and `cols`, from 1 to 65535 each.
pub fn parse_size(fields: &Fields) -> Result<Size> {
    let number = |name| {
        let number = fields.number(name)?.ok_or(Error::Invalid("rows or cols is missing"))?;
        u16::try_from(number)
            .ok()
            .filter(|number| *number > 0)
            .ok_or(Error::Invalid("rows and cols are from 1 to 65535"))
    };
    Ok(Size::new(number("rows")?, number("cols")?))
}

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<()> {
    let size = parse_size(fields)?;
    let process = agent.history.find(process_id(fields)?)?;
    let terminal =
        process.terminal.as_ref().ok_or(Error::Invalid("the process has no terminal"))?;
    if !terminal.resize(size)? {
        return Err(Error::UnknownProcess);
    }
    if !terminal.tells_size {
        // One that has ended meanwhile needs not know.
        let _ = process.signal(SIGWINCH, true);
    }
    connection.send_record(Record::done())
}
