// SPDX-License-Identifier: Apache-2.0
//! `copy`: a file, or a directory with all it holds, with modes and owners, links as links.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};

use crate::connection::Connection;
use crate::directory::{Directory, FileType, Location};
use crate::error::{errno, Error, Result};
use crate::file_unsafe::{
    change_mode, change_owner_at, copy_range, make_node_at, open_at, rename_at, set_modified_at,
    symlink_at, Stat, Time, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY,
};
use crate::handler::files::{done, path_field, Cancel};
use crate::message::{Fields, Record};
use crate::path::{c_string, AbsolutePath};
use crate::walk::{Order, Walk};
use crate::watches::temporary::temporary_name;

const ROOT: (u32, u32) = (0, 0);
const RANGE_BYTES: usize = 8 << 20;
const BUFFER_BYTES: usize = 256 << 10;

pub fn apply(connection: &Connection, fields: &Fields) -> Result<Record> {
    let source = locate(&path_field(fields, "source")?)?;
    let destination = path_field(fields, "destination")?;
    source.parent.stat_child(&source.name)?;
    let destination = make_destination(&destination)?;
    copy_tree(&source, &destination, &mut Cancel::new(connection))?;
    done()
}

pub fn locate(path: &AbsolutePath) -> Result<Location> {
    Location::find(path)?.ok_or(Error::Invalid("the root cannot be the source"))
}

/// Where the destination goes, its parents made. An existing directory is in the way.
pub fn make_destination(path: &AbsolutePath) -> Result<Location> {
    let location = Location::make(path, ROOT)?.ok_or(Error::System(errno::EEXIST))?;
    match location.stat()? {
        Some(stat) if stat.is_directory() => Err(Error::System(errno::EEXIST)),
        _ => Ok(location),
    }
}

pub fn copy_tree(source: &Location, destination: &Location, cancel: &mut Cancel<'_>) -> Result<()> {
    let stat = source.parent.stat_child(&source.name)?;
    refuse_within_itself(&stat, &destination.parent)?;
    let from = Place { directory: &source.parent, name: &source.name };
    if !stat.is_directory() {
        return copy_into_place(&from, destination, &stat, cancel);
    }
    destination.parent.make_child(&destination.name, 0o700)?;
    let top = source.parent.open_child(&source.name)?;
    let made = destination.parent.open_child(&destination.name)?;
    copy_content(top, made, cancel)?;
    finish(&destination.parent, &destination.name, &stat)
}

/// Copies beside the destination and renames, so that it is never seen half done.
fn copy_into_place(
    from: &Place<'_>,
    destination: &Location,
    stat: &Stat,
    cancel: &mut Cancel<'_>,
) -> Result<()> {
    let parent = &destination.parent;
    let name = temporary_name(destination.stat()?.is_some())?;
    copy_one(from, &Place { directory: parent, name: &name }, stat, cancel)?;
    let renamed = rename_at(parent, &name, parent, &destination.name);
    if renamed.is_err() {
        // If this fails too, the file system is beyond our help.
        let _ = parent.unlink(&name);
    }
    Ok(renamed?)
}

struct Place<'a> {
    directory: &'a Directory,
    name: &'a CStr,
}

/// A directory copied but for its owner, mode and time, which are set when all is in it.
struct Unfinished {
    directory: Directory,
    child: Option<(std::ffi::CString, Stat)>,
}

fn copy_content(top: Directory, made: Directory, cancel: &mut Cancel<'_>) -> Result<()> {
    let mut walk = Walk::new(top, Order::Found)?;
    let mut levels = vec![Unfinished { directory: made, child: None }];
    while let Some(found) = walk.next_entry()? {
        cancel.step()?;
        while levels.len() > found.depth {
            finish_deepest(&mut levels)?;
        }
        let (from, to) = match (walk.directory(), levels.last_mut()) {
            (Some(from), Some(to)) => (from, to),
            _ => break,
        };
        let source = Place { directory: from, name: &found.name };
        copy_one(
            &source,
            &Place { directory: &to.directory, name: &found.name },
            &found.stat,
            cancel,
        )?;
        if found.stat.is_directory() {
            let directory = to.directory.open_child(&found.name)?;
            to.child = Some((found.name.clone(), found.stat));
            levels.push(Unfinished { directory, child: None });
            walk.descend(&found.name)?;
        }
    }
    while levels.len() > 1 {
        finish_deepest(&mut levels)?;
    }
    Ok(())
}

fn finish_deepest(levels: &mut Vec<Unfinished>) -> Result<()> {
    levels.pop();
    match levels.last_mut().map(|level| (level.child.take(), level)) {
        Some((Some((name, stat)), level)) => finish(&level.directory, &name, &stat),
        _ => Ok(()),
    }
}

fn copy_one(from: &Place<'_>, to: &Place<'_>, stat: &Stat, cancel: &mut Cancel<'_>) -> Result<()> {
    match stat.file_type() {
        FileType::Directory => return to.directory.make_child(to.name, 0o700),
        FileType::File => return copy_file(from, to, stat, cancel),
        FileType::Symlink => {
            let target = from.directory.read_link(from.name)?;
            symlink_at(&c_string(&target)?, to.directory, to.name)?;
        }
        FileType::Fifo | FileType::Other => {
            let device = device_number(stat.node);
            make_node_at(to.directory, to.name, stat.mode, device)?;
        }
    }
    finish(to.directory, to.name, stat)
}

/// As glibc's `makedev`.
fn device_number((major, minor): (u32, u32)) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & 0xfff) << 8 | (major & !0xfff) << 32 | (minor & 0xff) | (minor & !0xff) << 12
}

fn copy_file(from: &Place<'_>, to: &Place<'_>, stat: &Stat, cancel: &mut Cancel<'_>) -> Result<()> {
    let source = open_at(from.directory, from.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0)?;
    let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    let mut made = File::from(open_at(to.directory, to.name, flags, 0o600)?);
    let copied = copy_bytes(&mut File::from(source), &mut made, cancel);
    if copied.is_err() {
        // Half a file is worse than none; if it cannot be removed, so be it.
        let _ = to.directory.unlink(to.name);
        return copied;
    }
    change_owner_at(&made, &std::ffi::CString::default(), stat.uid, stat.gid)?;
    change_mode(&made, stat.permissions())?;
    set_time(to.directory, to.name, stat)
}

fn copy_bytes(source: &mut File, made: &mut File, cancel: &mut Cancel<'_>) -> Result<()> {
    loop {
        match copy_range(source, made, RANGE_BYTES).map_err(Error::from) {
            Ok(0) => break,
            Ok(_) => cancel.look()?,
            // Not between these file systems, or not in this kernel.
            Err(Error::System(
                errno::ENOSYS | errno::EXDEV | errno::EINVAL | errno::EOPNOTSUPP | errno::EPERM,
            )) => break,
            Err(error) => return Err(error),
        }
    }
    // Also after an apparent end: some kernels copy nothing from files that they make up.
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(()),
            count => made.write_all(&buffer[..count])?,
        }
        cancel.step()?;
    }
}

/// Owner, mode and time, in the order in which they do not undo each other.
fn finish(directory: &Directory, name: &CStr, stat: &Stat) -> Result<()> {
    directory.change_owner(name, (stat.uid, stat.gid))?;
    if stat.file_type() != FileType::Symlink {
        directory.change_mode(name, stat.permissions())?;
    }
    set_time(directory, name, stat)
}

fn set_time(directory: &Directory, name: &CStr, stat: &Stat) -> Result<()> {
    let nanoseconds = i64::from(stat.modified_nanoseconds);
    let time = Time { seconds: stat.modified_seconds, nanoseconds };
    Ok(set_modified_at(directory, name, time)?)
}

/// A directory cannot be copied or moved to a place within itself: it would never end.
fn refuse_within_itself(source: &Stat, destination: &Directory) -> Result<()> {
    if !source.is_directory() {
        return Ok(());
    }
    let mut stat = destination.stat()?;
    let mut directory = destination.open_parent()?;
    loop {
        if stat.is_same_file(source) {
            return Err(Error::Invalid("the destination lies within the source"));
        }
        let above = directory.stat()?;
        if above.is_same_file(&stat) {
            return Ok(());
        }
        directory = directory.open_parent()?;
        stat = above;
    }
}
