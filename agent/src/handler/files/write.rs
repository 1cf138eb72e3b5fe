// SPDX-License-Identifier: Apache-2.0
//! `write`: a file, whole or not at all; or bytes at the end of one.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::directory::{FileType, Location};
use crate::error::{errno, Error, Result};
use crate::file_unsafe::{
    change_mode, change_owner_at, open_at, rename_at, stat_at, Stat, AT_EMPTY_PATH, O_APPEND,
    O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_WRONLY,
};
use crate::handler::files::content::receive;
use crate::handler::files::{owner_field, path_field};
use crate::message::{Fields, Record};
use crate::watches::temporary::temporary_name;

const NEW_FILE_MODE: u32 = 0o644;
/// Temporary names that other writers may happen to hold.
const MAX_NAME_TRIES: u32 = 100;

struct WriteRequest {
    mode: Option<u32>,
    owner: Option<(u32, u32)>,
    append: bool,
    size: Option<u64>,
}

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<Record> {
    let path = path_field(fields, "path")?;
    let owner = owner_field(agent, fields)?;
    let request = WriteRequest {
        mode: fields.mode("mode")?,
        owner: fields.get("user").map(|_| owner),
        append: fields.bool("append", false)?,
        size: fields.number("size")?,
    };
    let parents = Some(owner).filter(|_| fields.bool("parents", false).unwrap_or(false));
    let location = Location::follow(&path, parents)?;
    let existing = location.stat()?;
    check_target(existing.as_ref())?;
    let size = match request.append {
        true => append(connection, &location, &request, existing.is_none())?,
        false => replace(connection, &location, &request, existing.as_ref())?,
    };
    Ok(Record::done().uint("size", size).bool("created", existing.is_none()))
}

fn check_target(existing: Option<&Stat>) -> Result<()> {
    match existing.map(Stat::file_type) {
        None | Some(FileType::File) => Ok(()),
        Some(FileType::Directory) => Err(Error::System(errno::EISDIR)),
        Some(_) => Err(Error::NotAFile),
    }
}

fn replace(
    connection: &mut Connection,
    location: &Location,
    request: &WriteRequest,
    existing: Option<&Stat>,
) -> Result<u64> {
    let mut temporary = Temporary::make(location, existing.is_some())?;
    let old_owner = existing.map(|stat| (stat.uid, stat.gid));
    let old_mode = existing.map_or(NEW_FILE_MODE, Stat::permissions);
    let size = receive_into(connection, &mut temporary.file, request.size)?;
    set_owner(&temporary.file, request.owner.or(old_owner))?;
    // After the owner: changing that clears setuid bits.
    change_mode(&temporary.file, request.mode.unwrap_or(old_mode))?;
    temporary.put()?;
    Ok(size)
}

fn append(
    connection: &mut Connection,
    location: &Location,
    request: &WriteRequest,
    is_new: bool,
) -> Result<u64> {
    let flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CREAT;
    let mut file = File::from(open_at(&location.parent, &location.name, flags, NEW_FILE_MODE)?);
    let before = stat_at(&file, &CString::default(), AT_EMPTY_PATH)?;
    check_target(Some(&before))?;
    match receive_into(connection, &mut file, request.size) {
        Ok(size) => {
            set_owner(&file, request.owner)?;
            if let Some(mode) = request.mode {
                change_mode(&file, mode)?;
            }
            Ok(before.size + size)
        }
        Err(error) => {
            // Nothing is to have changed. What fails here cannot be mended either.
            let _ = file.set_len(before.size);
            if is_new {
                let _ = location.parent.unlink(&location.name);
            }
            Err(error)
        }
    }
}

fn receive_into(connection: &mut Connection, file: &mut File, size: Option<u64>) -> Result<u64> {
    connection.send_record(Record::event("ready"))?;
    connection.expect_bulk();
    let mut offset = 0;
    while let Some(piece) = receive(connection, &mut offset)? {
        file.write_all(piece)?;
    }
    if size.map_or(false, |size| size != offset) {
        return Err(Error::Invalid("the content does not have the size that was announced"));
    }
    Ok(offset)
}

fn set_owner(file: &File, owner: Option<(u32, u32)>) -> Result<()> {
    if let Some((uid, gid)) = owner {
        change_owner_at(file, &CString::default(), uid, gid)?;
    }
    Ok(())
}

/// A file beside its target, which it replaces or else vanishes.
struct Temporary<'a> {
    location: &'a Location,
    name: CString,
    file: File,
    is_put: bool,
}

impl<'a> Temporary<'a> {
    fn make(location: &'a Location, replaces: bool) -> Result<Temporary<'a>> {
        for _ in 0..MAX_NAME_TRIES {
            let name = temporary_name(replaces)?;
            let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
            match open_at(&location.parent, &name, flags, 0o600).map_err(Error::from) {
                Err(Error::System(errno::EEXIST)) => {}
                opened => {
                    let file = File::from(opened?);
                    return Ok(Temporary { location, name, file, is_put: false });
                }
            }
        }
        Err(Error::System(errno::EEXIST))
    }

    fn put(mut self) -> Result<()> {
        let parent = &self.location.parent;
        rename_at(parent, &self.name, parent, &self.location.name)?;
        self.is_put = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.is_put {
            // If this fails too, the file system is beyond our help.
            let _ = self.location.parent.unlink(&self.name);
        }
    }
}
