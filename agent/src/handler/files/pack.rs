// SPDX-License-Identifier: Apache-2.0
//! `pack`: what a directory holds, as a tar stream. Sockets and devices are left out.

use std::ffi::CStr;
use std::fs::File;

use crate::connection::Connection;
use crate::directory::{Directory, FileType};
use crate::error::{errno, Error, Result};
use crate::file_unsafe::{open_at, Stat, O_NOFOLLOW, O_NONBLOCK, O_RDONLY};
use crate::handler::files::content::Sender;
use crate::handler::files::{done, path_field};
use crate::message::{Fields, Record};
use crate::tar::{padding, render_header, Member, Type, BLOCK_BYTES};
use crate::walk::{Found, Order, Walk};

static ZEROS: [u8; 64 * BLOCK_BYTES] = [0; 64 * BLOCK_BYTES];

pub fn apply(connection: &mut Connection, fields: &Fields) -> Result<Record> {
    let path = path_field(fields, "path")?;
    let mut walk = Walk::new(Directory::open(&path)?, Order::Found)?;
    let mut sender = Sender::new(connection);
    while let Some(found) = walk.next_entry()? {
        pack_one(&walk, &found, &mut sender)?;
        if found.stat.is_directory() {
            walk.descend(&found.name)?;
        }
    }
    sender.push(&ZEROS[..2 * BLOCK_BYTES])?;
    sender.finish()?;
    done()
}

fn pack_one(walk: &Walk, found: &Found, sender: &mut Sender<'_>) -> Result<()> {
    let directory = match walk.directory() {
        Some(directory) => directory,
        None => return Ok(()),
    };
    let mut member = describe(walk.path(), &found.stat);
    match found.stat.file_type() {
        FileType::File => return pack_file(directory, &found.name, member, sender),
        FileType::Directory => {
            member.kind = Type::Directory;
            member.path.push(b'/');
        }
        FileType::Symlink => {
            member.kind = Type::Symlink;
            member.link = directory.read_link(&found.name)?;
        }
        FileType::Fifo => member.kind = Type::Fifo,
        FileType::Other => return Ok(()),
    }
    sender.push(&render_header(&member))
}

fn describe(path: &[u8], stat: &Stat) -> Member {
    Member {
        kind: Type::File,
        path: path.to_vec(),
        link: Vec::new(),
        mode: stat.permissions(),
        uid: u64::from(stat.uid),
        gid: u64::from(stat.gid),
        size: 0,
        modified_seconds: stat.modified_seconds,
    }
}

/// The header has promised a size: a file that shrinks meanwhile is filled up with zeros, and of
/// one that grows only the first part is sent.
fn pack_file(
    directory: &Directory,
    name: &CStr,
    mut member: Member,
    sender: &mut Sender<'_>,
) -> Result<()> {
    let opened = open_at(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    let mut file = match opened.map_err(Error::from) {
        // Gone since it was listed.
        Err(Error::System(errno::ENOENT)) => return Ok(()),
        other => File::from(other?),
    };
    let size = file.metadata()?.len();
    member.size = size;
    sender.push(&render_header(&member))?;
    let mut missing = size - sender.push_file(&mut file, size)?;
    while missing > 0 {
        let piece = usize::try_from(missing).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        sender.push(&ZEROS[..piece])?;
        missing -= piece as u64;
    }
    sender.push(&ZEROS[..padding(size)])
}
