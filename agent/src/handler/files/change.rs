// SPDX-License-Identifier: Apache-2.0
//! `chmod` and `chown`: on one entry or a whole tree, never through a link.

use std::ffi::CStr;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::directory::{Directory, FileType, Location};
use crate::error::{errno, Error, Result};
use crate::handler::files::{done, path_field, Cancel};
use crate::message::{Fields, Record};
use crate::path::{c_string, AbsolutePath};
use crate::walk::{Order, Walk};

pub fn chmod(connection: &Connection, fields: &Fields) -> Result<Record> {
    let mode = fields.mode("mode")?.ok_or(Error::Invalid("mode is missing"))?;
    change(connection, fields, |directory, name, is_first| {
        match directory.change_mode(name, mode) {
            // Met in recursion, a link is passed over.
            Err(Error::System(errno::ELOOP)) if !is_first => Ok(()),
            other => other,
        }
    })
}

pub fn chown(agent: &Agent, connection: &Connection, fields: &Fields) -> Result<Record> {
    let user = fields.bytes("user")?.ok_or(Error::Invalid("user is missing"))?;
    let account = agent.users.account(Some(user))?;
    let gid = fields.bytes("group")?.map(|group| agent.users.gid(group)).transpose()?;
    let owner = (account.uid, gid.unwrap_or(account.gid));
    change(connection, fields, |directory, name, _| directory.change_owner(name, owner))
}

/// Calls `act` for the entry at `path` and, if asked, for all beneath.
fn change(
    connection: &Connection,
    fields: &Fields,
    act: impl Fn(&Directory, &CStr, bool) -> Result<()>,
) -> Result<Record> {
    let path = path_field(fields, "path")?;
    let recursive = fields.bool("recursive", false)?;
    let location = locate(&path)?;
    let stat = location.parent.stat_child(&location.name)?;
    act(&location.parent, &location.name, true)?;
    if recursive && stat.file_type() == FileType::Directory {
        let mut cancel = Cancel::new(connection);
        let top = location.parent.open_child(&location.name)?;
        let mut walk = Walk::new(top, Order::Found)?;
        while let Some(found) = walk.next_entry()? {
            cancel.step()?;
            if let Some(directory) = walk.directory() {
                pass_over_vanished(act(directory, &found.name, false))?;
            }
            if found.stat.is_directory() {
                walk.descend(&found.name)?;
            }
        }
    }
    done()
}

/// The root and dot names are changed as well; they are reached from within.
fn locate(path: &AbsolutePath) -> Result<Location> {
    if let Ok(Some(location)) = path.split().map(|parts| parts.map(|_| Location::find(path))) {
        return location?.ok_or(Error::System(errno::ENOENT));
    }
    Ok(Location { parent: Directory::open(path)?, name: c_string(b".")? })
}

fn pass_over_vanished(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::System(errno::ENOENT)) => Ok(()),
        other => other,
    }
}
