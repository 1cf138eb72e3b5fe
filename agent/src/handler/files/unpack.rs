// SPDX-License-Identifier: Apache-2.0
//! `unpack`: a tar stream into a directory, and nowhere else.
//!
//! Every name is resolved part by part from the open top directory, never through a link. Parts
//! stay open while the next is looked up, so a directory that is exchanged for a link meanwhile
//! leads nowhere new.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write;

use crate::agent::Agent;
use crate::connection::Connection;
use crate::directory::{make_directories, Directory};
use crate::error::{errno, Error, Result};
use crate::file_unsafe::{
    change_mode, change_owner_at, link_at, make_node_at, open_at, set_modified_at, symlink_at,
    Time, O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY,
};
use crate::handler::files::content::receive;
use crate::handler::files::{owner_field, path_field};
use crate::message::{Fields, Record};
use crate::path::c_string;
use crate::tar::{
    is_end, padding, parse_header, Block, Member, Overrides, Type, BLOCK_BYTES, MAX_EXTENSION_BYTES,
};

const PARENT_MODE: u32 = 0o755;
/// setuid and setgid are dropped.
const KEPT_MODE: u32 = 0o1777;
const FIFO: u32 = 0o010_000;

pub fn apply(agent: &Agent, connection: &mut Connection, fields: &Fields) -> Result<Record> {
    let path = path_field(fields, "path")?;
    let owner = owner_field(agent, fields)?;
    make_directories(&path, PARENT_MODE, owner)?;
    let target = Target { top: Directory::open(&path)?, owner };
    connection.send_record(Record::event("ready"))?;
    connection.expect_bulk();
    let mut archive = Archive::new(connection);
    let mut overrides = Overrides::default();
    let mut entries = 0;
    while let Some(mut member) = archive.next_header()? {
        if let Type::Extension(extension) = member.kind {
            overrides.add(extension, &archive.read_extension(&member)?)?;
            continue;
        }
        overrides.apply(&mut member);
        target.place(&member, &mut archive)?;
        entries += 1;
    }
    archive.skip_rest()?;
    Ok(Record::done().uint("entries", entries))
}

/// The stream of frames as a stream of bytes.
struct Archive<'a> {
    connection: &'a mut Connection,
    /// What is left of the frame last received.
    piece: Vec<u8>,
    position: usize,
    offset: u64,
    /// After the last frame there is nothing more to wait for.
    is_ended: bool,
}

impl<'a> Archive<'a> {
    fn new(connection: &'a mut Connection) -> Archive<'a> {
        Archive { connection, piece: Vec::new(), position: 0, offset: 0, is_ended: false }
    }

    /// None at the end mark, or where the stream ends between two members.
    fn next_header(&mut self) -> Result<Option<Member>> {
        let mut block: Block = [0; BLOCK_BYTES];
        if self.rest()?.is_none() {
            return Ok(None);
        }
        self.read_exact(&mut block)?;
        if is_end(&block) {
            return Ok(None);
        }
        parse_header(&block).map(Some)
    }

    fn read_extension(&mut self, member: &Member) -> Result<Vec<u8>> {
        if member.size > MAX_EXTENSION_BYTES {
            return Err(Error::Limit("a header in the archive is too long"));
        }
        let mut content = Vec::new();
        self.copy(member.size, |piece| {
            content.extend_from_slice(piece);
            Ok(())
        })?;
        self.skip_padding(member.size)?;
        Ok(content)
    }

    /// Hands over exactly `size` bytes, piece by piece.
    fn copy(&mut self, size: u64, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut left = size;
        while left > 0 {
            let piece = self.rest()?.ok_or(Error::Invalid("the archive ends early"))?;
            let count = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            take(&piece[..count])?;
            self.position += count;
            left -= count as u64;
        }
        Ok(())
    }

    fn read_exact(&mut self, out: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        self.copy(out.len() as u64, |piece| {
            out[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
            Ok(())
        })
    }

    fn skip_padding(&mut self, size: u64) -> Result<()> {
        self.copy(padding(size) as u64, |_| Ok(()))
    }

    /// Writers fill their last record with zeros, or with anything.
    fn skip_rest(&mut self) -> Result<()> {
        while self.rest()?.is_some() {
            self.position = self.piece.len();
        }
        Ok(())
    }

    /// What has been received and not been read, never empty; none at the end of the stream.
    fn rest(&mut self) -> Result<Option<&[u8]>> {
        if self.position == self.piece.len() && !self.is_ended {
            self.piece.clear();
            self.position = 0;
            match receive(self.connection, &mut self.offset)? {
                Some(payload) => self.piece.extend_from_slice(payload),
                None => self.is_ended = true,
            }
        }
        Ok(Some(&self.piece[self.position..]).filter(|rest| !rest.is_empty()))
    }
}

struct Target {
    top: Directory,
    owner: (u32, u32),
}

impl Target {
    fn place(&self, member: &Member, archive: &mut Archive<'_>) -> Result<()> {
        let (parent, name) = match self.locate(&member.path, true)? {
            Some(place) => place,
            // The top itself, as in an archive of `.`; it is there, and is not the archive's.
            None if member.kind == Type::Directory => return Ok(()),
            None => return Err(Error::Invalid("a member of the archive has no name")),
        };
        let parent = parent.as_ref().unwrap_or(&self.top);
        match member.kind {
            Type::File => return self.place_file(parent, &name, member, archive),
            Type::Directory => return self.place_directory(parent, &name, member),
            Type::HardLink => return self.place_hard_link(parent, &name, member),
            Type::Symlink => {
                clear_way(parent, &name)?;
                symlink_at(&c_string(&member.link)?, parent, &name)?;
            }
            Type::Fifo => {
                clear_way(parent, &name)?;
                make_node_at(parent, &name, FIFO | (member.mode & KEPT_MODE), 0)?;
            }
            Type::Extension(_) => return Ok(()),
        }
        parent.change_owner(&name, self.owner)?;
        set_time(parent, &name, member)
    }

    fn place_file(
        &self,
        parent: &Directory,
        name: &CStr,
        member: &Member,
        archive: &mut Archive<'_>,
    ) -> Result<()> {
        clear_way(parent, name)?;
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
        let mut file = File::from(open_at(parent, name, flags, 0o600)?);
        archive.copy(member.size, |piece| Ok(file.write_all(piece)?))?;
        archive.skip_padding(member.size)?;
        change_owner_at(&file, &CString::default(), self.owner.0, self.owner.1)?;
        change_mode(&file, member.mode & KEPT_MODE)?;
        set_time(parent, name, member)
    }

    fn place_directory(&self, parent: &Directory, name: &CStr, member: &Member) -> Result<()> {
        match parent.make_child(name, 0o700) {
            Ok(()) | Err(Error::System(errno::EEXIST)) => {}
            Err(error) => return Err(error),
        }
        let made = open_real(parent, name)?;
        change_owner_at(&made, &CString::default(), self.owner.0, self.owner.1)?;
        Ok(change_mode(&made, member.mode & KEPT_MODE)?)
    }

    fn place_hard_link(&self, parent: &Directory, name: &CStr, member: &Member) -> Result<()> {
        let (source, source_name) = self
            .locate(&member.link, false)?
            .ok_or(Error::Invalid("a hard link in the archive to no file"))?;
        let source = source.as_ref().unwrap_or(&self.top);
        if source.stat_child(&source_name)?.is_directory() {
            return Err(Error::Invalid("a hard link in the archive to no file"));
        }
        // A link of a file to itself would otherwise remove it.
        let place = parent.stat_child(name);
        if matches!(&place, Ok(there) if there.is_same_file(&source.stat_child(&source_name)?)) {
            return Ok(());
        }
        clear_way(parent, name)?;
        Ok(link_at(source, &source_name, parent, name)?)
    }

    /// The open parent of a member (none: the top) and its name in it; none for the top itself.
    fn locate(&self, path: &[u8], make: bool) -> Result<Option<(Option<Directory>, CString)>> {
        if path.first() == Some(&b'/') {
            return Err(Error::Invalid("an absolute name in the archive"));
        }
        let is_part = |part: &&[u8]| !part.is_empty() && *part != b".";
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(is_part).collect();
        if parts.contains(&&b".."[..]) {
            return Err(Error::Invalid("a name with .. in the archive"));
        }
        let (name, parents) = match parts.split_last() {
            Some(split) => split,
            None => return Ok(None),
        };
        let mut directory = None;
        for part in parents {
            let above = directory.as_ref().unwrap_or(&self.top);
            directory = Some(self.enter(above, &c_string(part)?, make)?);
        }
        Ok(Some((directory, c_string(name)?)))
    }

    fn enter(&self, above: &Directory, name: &CStr, make: bool) -> Result<Directory> {
        match open_real(above, name) {
            Err(Error::System(errno::ENOENT)) if make => {
                above.make_child(name, 0o700)?;
                let made = open_real(above, name)?;
                change_owner_at(&made, &CString::default(), self.owner.0, self.owner.1)?;
                change_mode(&made, PARENT_MODE)?;
                Ok(made)
            }
            other => other,
        }
    }
}

/// Opens a directory that is one itself.
fn open_real(parent: &Directory, name: &CStr) -> Result<Directory> {
    parent.open_child(name).map_err(|error| match error {
        Error::System(errno::ENOTDIR) | Error::System(errno::ELOOP) => {
            Error::Invalid("a member of the archive lies beneath something that is no directory")
        }
        other => other,
    })
}

/// Removes what a new member replaces. A directory stays and is an error.
fn clear_way(parent: &Directory, name: &CStr) -> Result<()> {
    match parent.unlink(name) {
        Err(Error::System(errno::ENOENT)) => Ok(()),
        other => other,
    }
}

fn set_time(parent: &Directory, name: &CStr, member: &Member) -> Result<()> {
    let time = Time { seconds: member.modified_seconds, nanoseconds: 0 };
    Ok(set_modified_at(parent, name, time)?)
}
