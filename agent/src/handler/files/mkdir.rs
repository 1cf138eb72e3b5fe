// SPDX-License-Identifier: Apache-2.0
//! `mkdir`: a directory, with its parents if asked.

use crate::agent::Agent;
use crate::directory::{Directory, Location};
use crate::error::{errno, Error, Result};
use crate::file_unsafe::{change_mode, change_owner_at};
use crate::handler::files::{done, owner_field, path_field};
use crate::message::{Fields, Record};

const DEFAULT_MODE: u32 = 0o755;

pub fn apply(agent: &Agent, fields: &Fields) -> Result<Record> {
    let path = path_field(fields, "path")?;
    let mode = fields.mode("mode")?.unwrap_or(DEFAULT_MODE);
    let owner = owner_field(agent, fields)?;
    let has_parents = fields.bool("parents", false)?;
    let location = match has_parents {
        true => Location::make(&path, owner)?,
        false => Location::find(&path)?,
    };
    match location.map(|location| make(&location, mode, owner)) {
        Some(Ok(())) => done(),
        // It may be a link to one, so the path is asked.
        None | Some(Err(Error::System(errno::EEXIST))) if has_parents => {
            Directory::open(&path).and_then(|_| done())
        }
        None => Err(Error::System(errno::EEXIST)),
        Some(Err(error)) => Err(error),
    }
}

fn make(location: &Location, mode: u32, owner: (u32, u32)) -> Result<()> {
    location.parent.make_child(&location.name, 0o700)?;
    let made = location.parent.open_child(&location.name)?;
    change_owner_at(&made, &std::ffi::CString::default(), owner.0, owner.1)?;
    Ok(change_mode(&made, mode)?)
}
