// SPDX-License-Identifier: Apache-2.0
//! `stat`: one file, behind a link or the link itself.

use crate::agent::Agent;
use crate::directory::FileType;
use crate::error::Result;
use crate::file_unsafe::{read_link_at, stat_at, Stat, AT_SYMLINK_NOFOLLOW, CWD};
use crate::handler::files::entry::{render, Entry};
use crate::handler::files::path_field;
use crate::message::{Fields, Record};
use crate::path::AbsolutePath;
use crate::users::Names;

pub fn apply(agent: &Agent, fields: &Fields) -> Result<Record> {
    let path = path_field(fields, "path")?;
    let flags = if fields.bool("follow", true)? { 0 } else { AT_SYMLINK_NOFOLLOW };
    let stat = stat_at(&CWD, &path.c_string()?, flags)?;
    Ok(Record::done().record("entry", render_path(&path, &stat, &agent.users.names())?))
}

/// An entry that was reached by its path.
pub fn render_path(path: &AbsolutePath, stat: &Stat, names: &Names) -> Result<Record> {
    let target = match stat.file_type() {
        FileType::Symlink => Some(read_link_at(&CWD, &path.c_string()?)?),
        _ => None,
    };
    // A path that ends in a dot name, and the root, are named as they were asked for.
    let name = path.split().ok().flatten().map(|(_, name)| name);
    let name = name.as_deref().unwrap_or_else(|| path.bytes());
    Ok(render(&Entry { name, path: path.bytes(), stat, target: target.as_deref() }, names))
}
