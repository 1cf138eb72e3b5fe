// SPDX-License-Identifier: Apache-2.0
//! Open directories, and what is done relative to them, so that nothing depends on a path staying
//! what it was.

use std::ffi::{CStr, CString};
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};

use crate::error::{errno, Error, Result};
use crate::file_unsafe::{
    change_mode, change_mode_at, change_owner_at, make_directory_at, open_at, read_directory,
    read_link_at, stat_at, unlink_at, Stat, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, CWD, O_DIRECTORY,
    O_NOFOLLOW, O_PATH, O_RDONLY,
};
use crate::path::{c_string, AbsolutePath};

/// As the kernel follows.
const MAX_SYMLINKS: usize = 40;
const TYPE_MASK: u32 = 0o170_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    File,
    Directory,
    Symlink,
    Fifo,
    Other,
}

impl Stat {
    pub fn file_type(&self) -> FileType {
        match self.mode & TYPE_MASK {
            0o100_000 => FileType::File,
            0o040_000 => FileType::Directory,
            0o120_000 => FileType::Symlink,
            0o010_000 => FileType::Fifo,
            _ => FileType::Other,
        }
    }

    pub fn is_directory(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    pub fn is_same_file(&self, other: &Stat) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

pub struct Directory(OwnedFd);

impl AsRawFd for Directory {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Directory {
    const NAME_TOO_LONG: usize = 300;

    /// Opens a path, links followed.
    pub fn open(path: &AbsolutePath) -> Result<Directory> {
        Ok(Directory(open_at(&CWD, &path.c_string()?, O_RDONLY | O_DIRECTORY, 0)?))
    }

    /// Opens a path whose last name must itself be a directory: a link is refused with ENOTDIR.
    pub fn open_itself(path: &AbsolutePath) -> Result<Directory> {
        Ok(Directory(open_unfollowed(&CWD, &path.c_string()?)?))
    }

    /// Opens a child that must itself be a directory: a link is refused with ENOTDIR.
    pub fn open_child(&self, name: &CStr) -> Result<Directory> {
        Ok(Directory(open_unfollowed(self, name)?))
    }

    pub fn open_parent(&self) -> Result<Directory> {
        let dots = c_string(b"..")?;
        Ok(Directory(open_at(self, &dots, O_RDONLY | O_DIRECTORY, 0)?))
    }

    pub fn stat(&self) -> Result<Stat> {
        self.stat_child(&c_string(b".")?)
    }

    /// Of a link itself.
    pub fn stat_child(&self, name: &CStr) -> Result<Stat> {
        Ok(stat_at(self, name, AT_SYMLINK_NOFOLLOW)?)
    }

    pub fn read_link(&self, name: &CStr) -> Result<Vec<u8>> {
        Ok(read_link_at(self, name)?)
    }

    pub fn make_child(&self, name: &CStr, mode: u32) -> Result<()> {
        Ok(make_directory_at(self, name, mode)?)
    }

    /// Changes permission bits; a link is refused. The kernel has no such call before 6.6, so the
    /// file is pinned first and then reached through `/proc`.
    pub fn change_mode(&self, name: &CStr, mode: u32) -> Result<()> {
        let pinned = open_at(self, name, O_PATH | O_NOFOLLOW, 0)?;
        let stat = stat_at(&pinned, &CString::default(), AT_EMPTY_PATH)?;
        if stat.file_type() == FileType::Symlink {
            return Err(Error::System(errno::ELOOP));
        }
        let path = format!("/proc/self/fd/{}", pinned.as_raw_fd());
        Ok(change_mode_at(&CWD, &c_string(path.as_bytes())?, mode)?)
    }

    /// Acts on a link itself.
    pub fn change_owner(&self, name: &CStr, owner: (u32, u32)) -> Result<()> {
        Ok(change_owner_at(self, name, owner.0, owner.1)?)
    }

    pub fn unlink(&self, name: &CStr) -> Result<()> {
        Ok(unlink_at(self, name, 0)?)
    }

    /// Returns when whoever changes a name in here at this moment is through with it, and watchers have
    /// been told: Linux tells them after the change can be seen, but before it lets go of the directory,
    /// which it also takes to remove a name. This one is too long to be there.
    pub fn wait_for_changes(&self) {
        let name = [b'-'; Directory::NAME_TOO_LONG];
        // It fails, as it should.
        let _ = c_string(&name).map(|name| self.unlink(&name));
    }

    pub fn names(self) -> Listing {
        Listing { directory: self, buffer: Vec::new(), position: 0, filled: 0 }
    }
}

/// A place for an entry: an open parent and a name in it.
pub struct Location {
    pub parent: Directory,
    pub name: CString,
}

impl Location {
    /// None for the root, which is no entry of anything.
    pub fn find(path: &AbsolutePath) -> Result<Option<Location>> {
        match path.split()? {
            None => Ok(None),
            Some((parent, name)) => {
                Ok(Some(Location { parent: Directory::open(&parent)?, name: c_string(&name)? }))
            }
        }
    }

    /// Like `find`, with missing parents made, root's or the owner's.
    pub fn make(path: &AbsolutePath, owner: (u32, u32)) -> Result<Option<Location>> {
        let found = Location::find(path);
        if let (Err(Error::System(errno::ENOENT)), Some((parent, _))) = (&found, path.split()?) {
            make_directories(&parent, 0o755, owner)?;
            return Location::find(path);
        }
        found
    }

    /// Where writing to `path` takes place: at the end of a chain of links, there or not.
    pub fn follow(path: &AbsolutePath, make_parents: Option<(u32, u32)>) -> Result<Location> {
        let mut path = path.clone();
        for _ in 0..MAX_SYMLINKS {
            let found = match make_parents {
                Some(owner) => Location::make(&path, owner)?,
                None => Location::find(&path)?,
            };
            let location = found.ok_or(Error::System(errno::EISDIR))?;
            match location.stat()? {
                Some(stat) if stat.file_type() == FileType::Symlink => {
                    let target = location.parent.read_link(&location.name)?;
                    let parent = path.split()?.map_or(path.clone(), |(parent, _)| parent);
                    path = parent.join(&target);
                }
                _ => return Ok(location),
            }
        }
        Err(Error::System(errno::ELOOP))
    }

    /// Of a link itself; none if nothing is there.
    pub fn stat(&self) -> Result<Option<Stat>> {
        match self.parent.stat_child(&self.name) {
            Err(Error::System(errno::ENOENT)) => Ok(None),
            other => other.map(Some),
        }
    }
}

/// Makes a directory and its missing parents; those that were missing get mode and owner.
pub fn make_directories(path: &AbsolutePath, mode: u32, owner: (u32, u32)) -> Result<()> {
    match stat_at(&CWD, &path.c_string()?, 0).map_err(Error::from) {
        Ok(stat) if stat.is_directory() => return Ok(()),
        Ok(_) => return Err(Error::System(errno::ENOTDIR)),
        Err(Error::System(errno::ENOENT)) => {}
        Err(error) => return Err(error),
    }
    let bytes = path.bytes();
    let ends = (1..=bytes.len()).filter(|end| {
        let is_end_of_name = bytes.get(*end).map_or(true, |next| *next == b'/');
        is_end_of_name && bytes[*end - 1] != b'/'
    });
    for end in ends {
        make_one(&c_string(&bytes[..end])?, mode, owner)?;
    }
    Ok(())
}

fn make_one(path: &CStr, mode: u32, owner: (u32, u32)) -> Result<()> {
    match make_directory_at(&CWD, path, 0o700).map_err(Error::from) {
        Ok(()) => {
            let made = open_unfollowed(&CWD, path)?;
            change_owner_at(&made, &CString::default(), owner.0, owner.1)?;
            Ok(change_mode(&made, mode)?)
        }
        Err(Error::System(errno::EEXIST)) if stat_at(&CWD, path, 0)?.is_directory() => Ok(()),
        Err(Error::System(errno::EEXIST)) => Err(Error::System(errno::ENOTDIR)),
        Err(error) => Err(error),
    }
}

/// Opens a directory, and no link to one. gVisor follows a link where O_DIRECTORY and O_NOFOLLOW come
/// together, so whatever has the name is pinned without following, looked at, and only then opened,
/// through itself.
fn open_unfollowed(at: &impl AsRawFd, path: &CStr) -> Result<OwnedFd> {
    let pinned = open_at(at, path, O_PATH | O_NOFOLLOW, 0)?;
    if !stat_at(&pinned, &CString::default(), AT_EMPTY_PATH)?.is_directory() {
        return Err(Error::System(errno::ENOTDIR));
    }
    Ok(open_at(&pinned, &c_string(b".")?, O_RDONLY | O_DIRECTORY, 0)?)
}

/// The names in a directory, in the kernel's order, without the dot names. Memory stays flat.
pub struct Listing {
    pub directory: Directory,
    buffer: Vec<u8>,
    position: usize,
    filled: usize,
}

impl Listing {
    const BUFFER_BYTES: usize = 8 << 10;
    /// Inode, offset, length of the record, type; then the name, ended by NUL.
    const NAME_AT: usize = 19;
    const TYPE_AT: usize = 18;
    const LENGTH_AT: usize = 16;
    /// Some file systems do not say.
    const TYPE_UNKNOWN: u8 = 0;
    const TYPE_DIRECTORY: u8 = 4;

    pub fn next_name(&mut self) -> Result<Option<CString>> {
        Ok(self.next_record()?.map(|(name, _)| name))
    }

    /// The next name, and whether it is a directory's.
    pub fn next_typed(&mut self) -> Result<Option<(CString, bool)>> {
        let (name, kind) = match self.next_record()? {
            Some(record) => record,
            None => return Ok(None),
        };
        let is_directory = match kind {
            // One that has gone meanwhile is none.
            Listing::TYPE_UNKNOWN => {
                self.directory.stat_child(&name).map_or(false, |stat| stat.is_directory())
            }
            kind => kind == Listing::TYPE_DIRECTORY,
        };
        Ok(Some((name, is_directory)))
    }

    fn next_record(&mut self) -> Result<Option<(CString, u8)>> {
        loop {
            if self.position == self.filled && !self.refill()? {
                return Ok(None);
            }
            let (name, kind) = self.take_record()?;
            if name.as_bytes() != b"." && name.as_bytes() != b".." {
                return Ok(Some((name, kind)));
            }
        }
    }

    fn refill(&mut self) -> Result<bool> {
        self.buffer.resize(Listing::BUFFER_BYTES, 0);
        self.filled = match read_directory(&self.directory, &mut self.buffer).map_err(Error::from) {
            // A directory that was removed while we looked has no names.
            Err(Error::System(errno::ENOENT)) => 0,
            other => other?,
        };
        self.position = 0;
        Ok(self.filled > 0)
    }

    fn take_record(&mut self) -> Result<(CString, u8)> {
        // What the kernel writes is well formed; if it were not, this is an error and no panic.
        let broken = Error::System(errno::EIO);
        let record = self.buffer.get(self.position..self.filled).ok_or(broken)?;
        let length = match record.get(Listing::LENGTH_AT..Listing::LENGTH_AT + 2) {
            Some(&[low, high]) => usize::from(u16::from_ne_bytes([low, high])),
            _ => return Err(broken),
        };
        let kind = *record.get(Listing::TYPE_AT).ok_or(broken)?;
        let name = record.get(Listing::NAME_AT..length).ok_or(broken)?;
        self.position += length;
        let end = name.iter().position(|byte| *byte == 0).ok_or(broken)?;
        Ok((c_string(&name[..end])?, kind))
    }
}
