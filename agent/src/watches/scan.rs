// SPDX-License-Identifier: Apache-2.0
//! What a directory holds when it begins to be followed.
//!
//! The queue says what has happened since the kernel watches it. So what is told is how it was at
//! that moment: what is there and has not moved since, and what has left since. The rest comes by
//! itself.

use std::ffi::CString;

use crate::directory::{Directory, Listing};
use crate::error::{Error, Result};
use crate::watches::change::{Change, Kind};
use crate::watches::events::Mark;
use crate::watches::follow::{Followed, Tree, Work};
use crate::watches::temporary::read_temporary;

/// How many names are told together.
const NAMES_AT_ONCE: usize = 4096;

/// A name in a followed directory.
pub type Place = (i32, Box<[u8]>);

/// What is told of what a directory holds when it begins to be followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Told,
    /// It was there before the watch was.
    Known,
}

/// A directory whose content is to be looked at. Events about it stand behind the mark.
pub struct Scan {
    pub wd: i32,
    pub directory: Directory,
    pub mark: Mark,
}

impl Tree {
    /// Places get the directories that are to be followed next.
    pub fn scan(
        &mut self,
        scan: Scan,
        content: Content,
        places: &mut Vec<Place>,
        work: Work<'_>,
    ) -> Result<Followed> {
        let Scan { wd, directory, mark } = scan;
        let mut names = directory.names();
        loop {
            let (found, is_all) = read_names(&mut names).unwrap_or_else(|_| {
                self.refuse(wd, b"", work);
                (Vec::new(), true)
            });
            if !self.queue.read_all()? {
                return Ok(Followed::Lost);
            }
            self.tell_found(wd, found, mark, content, places, work);
            if is_all {
                self.tell_left(wd, mark, content, work);
                return Ok(Followed::Well);
            }
            if !(work.goes_on)() {
                return Err(Error::Closed);
            }
        }
    }

    /// Names that are there, and of which the queue says nothing.
    fn tell_found(
        &mut self,
        wd: i32,
        found: Vec<(CString, bool)>,
        mark: Mark,
        content: Content,
        places: &mut Vec<Place>,
        work: Work<'_>,
    ) {
        let moving = self.queue.first_moves(wd, mark);
        for (name, is_directory) in found {
            let name = name.as_bytes();
            if moving.contains_key(name) || read_temporary(name).is_some() {
                continue;
            }
            if content == Content::Told {
                let path = self.absolute(wd, name);
                work.changes.push(Change::new(Kind::Created, path, is_directory));
            }
            match is_directory {
                true if self.has_room(places.len()) => places.push((wd, Box::from(name))),
                true => self.refuse(wd, name, work),
                false => {}
            }
        }
    }

    /// Names that were there, and of which the queue first says that they have left.
    fn tell_left(&self, wd: i32, mark: Mark, content: Content, work: Work<'_>) {
        if content == Content::Known {
            return;
        }
        for (name, first) in self.queue.first_moves(wd, mark) {
            if first.has_left && read_temporary(name).is_none() {
                let path = self.absolute(wd, name);
                work.changes.push(Change::new(Kind::Created, path, first.is_directory));
            }
        }
    }
}

/// The next names, and whether they are the last.
fn read_names(names: &mut Listing) -> Result<(Vec<(CString, bool)>, bool)> {
    let mut found = Vec::new();
    while found.len() < NAMES_AT_ONCE {
        match names.next_typed()? {
            Some(name) => found.push(name),
            None => return Ok((found, true)),
        }
    }
    Ok((found, false))
}
