// SPDX-License-Identifier: Apache-2.0
//! `remove`: an entry, with all beneath if asked; links are removed and never followed.

use std::ffi::{CStr, CString};

use crate::connection::Connection;
use crate::directory::{Directory, Listing, Location};
use crate::error::{errno, Error, Result};
use crate::file_unsafe::{rename_at, unlink_at, AT_REMOVEDIR};
use crate::handler::files::{done, path_field, Cancel};
use crate::message::{Fields, Record};
use crate::path::c_string;

/// Levels held open. What lies deeper is first moved up to the top, so that no nesting is too deep.
const MAX_OPEN_LEVELS: usize = 64;

pub fn apply(connection: &Connection, fields: &Fields) -> Result<Record> {
    let path = path_field(fields, "path")?;
    let location = Location::find(&path)?.ok_or(Error::Invalid("the root cannot be removed"))?;
    if fields.bool("recursive", false)? {
        remove_tree(&location, &mut Cancel::new(connection))?;
    } else {
        remove_one(&location.parent, &location.name)?;
    }
    done()
}

/// Removes an entry and all beneath it.
pub fn remove_tree(location: &Location, cancel: &mut Cancel<'_>) -> Result<()> {
    match remove_one(&location.parent, &location.name) {
        Err(Error::System(errno::ENOTEMPTY | errno::EEXIST)) => {}
        other => return other,
    }
    // Others may put new entries in while we work; then there is one more round.
    loop {
        let top = location.parent.open_child(&location.name)?;
        empty(top, cancel)?;
        match unlink_at(&location.parent, &location.name, AT_REMOVEDIR).map_err(Error::from) {
            Err(Error::System(errno::ENOTEMPTY | errno::EEXIST)) => cancel.look()?,
            other => return other,
        }
    }
}

struct Level {
    listing: Listing,
    /// In its parent; the top has none.
    name: CString,
}

/// Removes what is in `top`, or moves it up within, for the next round.
fn empty(top: Directory, cancel: &mut Cancel<'_>) -> Result<()> {
    let mut levels = vec![Level { listing: top.names(), name: CString::default() }];
    let mut moved = 0;
    while let Some(level) = levels.last_mut() {
        let name = match level.listing.next_name()? {
            Some(name) => name,
            None => {
                leave(&mut levels)?;
                continue;
            }
        };
        cancel.step()?;
        match remove_one(&level.listing.directory, &name) {
            Ok(()) | Err(Error::System(errno::ENOENT)) => {}
            Err(Error::System(errno::ENOTEMPTY | errno::EEXIST)) => {
                if levels.len() < MAX_OPEN_LEVELS {
                    descend(&mut levels, name)?;
                } else {
                    move_up(&levels, &name, &mut moved)?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes the directory that has just been emptied. If something is in it again, the next round
/// meets it.
fn leave(levels: &mut Vec<Level>) -> Result<()> {
    let left = levels.pop();
    if let (Some(left), Some(parent)) = (left, levels.last()) {
        let removed = unlink_at(&parent.listing.directory, &left.name, AT_REMOVEDIR);
        match removed.map_err(Error::from) {
            Ok(()) => {}
            Err(Error::System(errno::ENOTEMPTY | errno::EEXIST | errno::ENOENT)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn descend(levels: &mut Vec<Level>, name: CString) -> Result<()> {
    let opened = levels.last().map(|level| level.listing.directory.open_child(&name));
    match opened {
        Some(Ok(directory)) => levels.push(Level { listing: directory.names(), name }),
        // Replaced by something that is no directory: the next round meets it.
        Some(Err(Error::System(errno::ENOENT | errno::ENOTDIR | errno::ELOOP))) | None => {}
        Some(Err(error)) => return Err(error),
    }
    Ok(())
}

fn move_up(levels: &[Level], name: &CStr, moved: &mut u64) -> Result<()> {
    if let (Some(top), Some(level)) = (levels.first(), levels.last()) {
        let (top, directory) = (&top.listing.directory, &level.listing.directory);
        loop {
            let new_name = c_string(format!(".atoll-removed-{}", moved).as_bytes())?;
            *moved += 1;
            match rename_at(directory, name, top, &new_name).map_err(Error::from) {
                Err(Error::System(errno::EEXIST | errno::ENOTEMPTY | errno::ENOTDIR)) => {}
                other => return other,
            }
        }
    }
    Ok(())
}

fn remove_one(directory: &Directory, name: &CStr) -> Result<()> {
    match directory.unlink(name) {
        Err(Error::System(errno::EISDIR)) => Ok(unlink_at(directory, name, AT_REMOVEDIR)?),
        other => other,
    }
}
