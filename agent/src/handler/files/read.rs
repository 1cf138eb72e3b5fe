// SPDX-License-Identifier: Apache-2.0
//! `read`: a regular file, or a part of one.

use std::fs::File;
use std::io::{Seek, SeekFrom};

use crate::agent::Agent;
use crate::connection::Connection;
use crate::directory::FileType;
use crate::error::{errno, Error, Result};
use crate::file_unsafe::{open_at, stat_at, Stat, AT_EMPTY_PATH, CWD, O_NONBLOCK, O_RDONLY};
use crate::handler::files::content::Sender;
use crate::handler::files::path_field;
use crate::handler::files::stat::render_path;
use crate::message::{Fields, Record};
use crate::path::AbsolutePath;

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<Record> {
    let path = path_field(fields, "path")?;
    let offset = fields.number("offset")?.unwrap_or(0);
    let (mut file, stat) = open_regular(&path)?;
    let length = fields.number("length")?.unwrap_or_else(|| held_from(offset, &stat));
    file.seek(SeekFrom::Start(offset))?;
    let entry = render_path(&path, &stat, &agent.users.names())?;
    connection.send_record(Record::event("file").record("entry", entry))?;
    let mut sender = Sender::new(connection);
    sender.push_file(&mut file, length)?;
    sender.finish()?;
    Ok(Record::done())
}

/// A file that grows is read as it was when it was opened, however long that takes. What has no size,
/// as under `/proc`, is read to its end.
fn held_from(offset: u64, stat: &Stat) -> u64 {
    if stat.size == 0 {
        return u64::MAX;
    }
    stat.size.saturating_sub(offset)
}

/// Opening a device can itself do things, so the type is looked at first; and once more afterwards,
/// because the path may lead elsewhere by then. A FIFO does not make this open wait.
fn open_regular(path: &AbsolutePath) -> Result<(File, Stat)> {
    let path = path.c_string()?;
    check_regular(&stat_at(&CWD, &path, 0)?)?;
    let file = open_at(&CWD, &path, O_RDONLY | O_NONBLOCK, 0)?;
    let stat = stat_at(&file, &std::ffi::CString::default(), AT_EMPTY_PATH)?;
    check_regular(&stat)?;
    Ok((File::from(file), stat))
}

fn check_regular(stat: &Stat) -> Result<()> {
    match stat.file_type() {
        FileType::File => Ok(()),
        FileType::Directory => Err(Error::System(errno::EISDIR)),
        _ => Err(Error::NotAFile),
    }
}
