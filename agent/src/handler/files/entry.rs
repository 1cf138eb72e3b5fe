// SPDX-License-Identifier: Apache-2.0
//! How a file is described to the client.

use crate::directory::FileType;
use crate::file_unsafe::Stat;
use crate::message::Record;
use crate::users::Names;

pub struct Entry<'a> {
    pub name: &'a [u8],
    pub path: &'a [u8],
    pub stat: &'a Stat,
    /// Of a symlink.
    pub target: Option<&'a [u8]>,
}

pub fn render(entry: &Entry<'_>, names: &Names) -> Record {
    let stat = entry.stat;
    let kind = match stat.file_type() {
        FileType::File => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo | FileType::Other => "other",
    };
    let seconds = stat.modified_seconds.saturating_mul(1_000_000_000);
    Record::new()
        .bytes("name", entry.name)
        .bytes("path", entry.path)
        .str("type", kind)
        .uint("size", stat.size)
        .uint("mode", u64::from(stat.permissions()))
        .uint("uid", u64::from(stat.uid))
        .uint("gid", u64::from(stat.gid))
        .optional_bytes("user", names.users.get(&stat.uid).map(Vec::as_slice))
        .optional_bytes("group", names.groups.get(&stat.gid).map(Vec::as_slice))
        .int("modified_ns", seconds.saturating_add(i64::from(stat.modified_nanoseconds)))
        .optional_bytes("target", entry.target)
}
