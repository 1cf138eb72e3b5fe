// SPDX-License-Identifier: Apache-2.0
//! `list`: what is in a directory, to a depth.

use crate::agent::Agent;
use crate::connection::Connection;
use crate::directory::{Directory, FileType};
use crate::error::{Error, Result};
use crate::frame::MAX_DATA_BYTES;
use crate::handler::files::entry::{render, Entry};
use crate::handler::files::path_field;
use crate::message::{Fields, Record};
use crate::users::Names;
use crate::walk::{Found, Order, Walk, MAX_DEPTH};

/// Of one request, whatever limit it names.
const MAX_ENTRIES: usize = 100_000;
/// Of one frame. An entry is below 10 KiB, so a frame stays below its limit.
const MAX_BATCH_BYTES: usize = MAX_DATA_BYTES;
const MAX_BATCH_ENTRIES: usize = 1000;

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<Record> {
    let path = path_field(fields, "path")?;
    let limit = count_field(fields, "limit")?.unwrap_or(MAX_ENTRIES).min(MAX_ENTRIES);
    let depth = count_field(fields, "depth")?.unwrap_or(1).min(MAX_DEPTH);
    // One more than may be sent shows that there are more.
    let order = Order::Sorted { at_most: limit + 1 };
    let mut walk = Walk::new(Directory::open(&path)?, order)?;
    let mut batch = Batch { names: agent.users.names(), entries: Vec::new(), bytes: 0 };
    let mut left = limit;
    let mut is_truncated = false;
    while let Some(found) = walk.next_entry()? {
        if left == 0 {
            is_truncated = true;
            break;
        }
        left -= 1;
        batch.add(&walk, &found, path.join(walk.path()).bytes())?;
        if batch.is_full() {
            batch.send(connection)?;
        }
        if found.stat.is_directory() && found.depth < depth {
            walk.descend(&found.name)?;
        }
    }
    batch.send(connection)?;
    Ok(Record::done().bool("truncated", is_truncated))
}

fn count_field(fields: &Fields, name: &str) -> Result<Option<usize>> {
    let number = fields.number(name)?;
    number.map(|number| usize::try_from(number).map_err(|_| Error::Invalid(""))).transpose()
}

struct Batch {
    names: Names,
    entries: Vec<Vec<u8>>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, walk: &Walk, found: &Found, path: &[u8]) -> Result<()> {
        let target = match (found.stat.file_type(), walk.directory()) {
            // A link that has just gone has no target.
            (FileType::Symlink, Some(directory)) => directory.read_link(&found.name).ok(),
            _ => None,
        };
        let entry = Entry { name: walk.path(), path, stat: &found.stat, target: target.as_deref() };
        let bytes = render(&entry, &self.names).finish();
        self.bytes += bytes.len();
        self.entries.push(bytes);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.bytes >= MAX_BATCH_BYTES || self.entries.len() >= MAX_BATCH_ENTRIES
    }

    fn send(&mut self, connection: &mut Connection) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        connection.send_record(Record::event("entries").records("entries", &self.entries))?;
        self.entries.clear();
        self.bytes = 0;
        Ok(())
    }
}
