// SPDX-License-Identifier: Apache-2.0
//! Goes through a tree of directories by descriptors, links not followed, parents before children.

use std::ffi::{CStr, CString};

use crate::directory::{Directory, Listing};
use crate::error::{errno, Error, Result};
use crate::file_unsafe::Stat;

/// Each level holds one descriptor.
pub const MAX_DEPTH: usize = 512;

/// In which order the names of one directory come.
#[derive(Clone, Copy)]
pub enum Order {
    /// The kernel's, in flat memory.
    Found,
    /// By name; of a larger directory only this many, the first ones.
    Sorted { at_most: usize },
}

pub struct Walk {
    levels: Vec<Level>,
    path: Vec<u8>,
    order: Order,
}

struct Level {
    names: Names,
    path_length: usize,
}

enum Names {
    Found(Listing),
    Sorted(Directory, std::vec::IntoIter<CString>),
}

pub struct Found {
    pub name: CString,
    pub stat: Stat,
    /// 1 for the entries of the directory that the walk began in.
    pub depth: usize,
}

impl Walk {
    pub fn new(directory: Directory, order: Order) -> Result<Walk> {
        let mut walk = Walk { levels: Vec::new(), path: Vec::new(), order };
        walk.enter(directory)?;
        Ok(walk)
    }

    /// The next entry, wherever it is; entries that vanish meanwhile are passed over.
    pub fn next_entry(&mut self) -> Result<Option<Found>> {
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_length);
            let name = match level.names.next_name()? {
                Some(name) => name,
                None => {
                    self.levels.pop();
                    continue;
                }
            };
            if let Some(stat) = stat_if_there(level.names.directory(), &name)? {
                self.path.extend_from_slice(name.as_bytes());
                return Ok(Some(Found { name, stat, depth: self.levels.len() }));
            }
        }
        Ok(None)
    }

    /// Goes on with what is in the directory that `next_entry` has just returned. One that is none any
    /// more is passed over.
    pub fn descend(&mut self, name: &CStr) -> Result<()> {
        if self.levels.len() >= MAX_DEPTH {
            return Err(Error::Limit("directories are nested too deeply"));
        }
        let opened = match self.directory() {
            Some(directory) => directory.open_child(name),
            None => return Ok(()),
        };
        match opened {
            Ok(directory) => {
                self.path.push(b'/');
                self.enter(directory)
            }
            Err(Error::System(errno::ENOENT | errno::ENOTDIR | errno::ELOOP)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Where the entry that `next_entry` has just returned is.
    pub fn directory(&self) -> Option<&Directory> {
        self.levels.last().map(|level| level.names.directory())
    }

    /// Its path relative to where the walk began.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    fn enter(&mut self, directory: Directory) -> Result<()> {
        let listing = directory.names();
        let names = match self.order {
            Order::Found => Names::Found(listing),
            Order::Sorted { at_most } => sort(listing, at_most)?,
        };
        self.levels.push(Level { names, path_length: self.path.len() });
        Ok(())
    }
}

impl Names {
    fn next_name(&mut self) -> Result<Option<CString>> {
        match self {
            Names::Found(listing) => listing.next_name(),
            Names::Sorted(_, names) => Ok(names.next()),
        }
    }

    fn directory(&self) -> &Directory {
        match self {
            Names::Found(listing) => &listing.directory,
            Names::Sorted(directory, _) => directory,
        }
    }
}

/// Keeps the first `at_most` names, in memory for twice as many.
fn sort(mut listing: Listing, at_most: usize) -> Result<Names> {
    let mut names = Vec::new();
    while let Some(name) = listing.next_name()? {
        names.push(name);
        if names.len() >= at_most.saturating_mul(2).max(2) {
            names.sort_unstable();
            names.truncate(at_most);
        }
    }
    names.sort_unstable();
    names.truncate(at_most);
    Ok(Names::Sorted(listing.directory, names.into_iter()))
}

fn stat_if_there(directory: &Directory, name: &CStr) -> Result<Option<Stat>> {
    match directory.stat_child(name) {
        Err(Error::System(errno::ENOENT)) => Ok(None),
        other => other.map(Some),
    }
}
