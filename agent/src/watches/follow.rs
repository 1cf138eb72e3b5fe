// SPDX-License-Identifier: Apache-2.0
//! The directories that a watch follows: how they come to be followed and cease to be.
//!
//! An event tells of the past, but a directory is reached by its path as it is now; between the two
//! it may have been renamed, removed, or replaced by another of its name. So the books go by the
//! events in their order, and a directory is entered only where it certainly is the one that the
//! event means: its parent is known by its descriptor, and nothing in the queue says that the name
//! has moved since. Otherwise a later event brings it, or ends it.

use std::collections::BTreeSet;
use std::mem::take;
use std::sync::atomic::AtomicUsize;
use std::sync::Arc;

use crate::directory::Directory;
use crate::error::{errno, Error, Result};
use crate::inotify_unsafe::{
    Inotify, ATTRIB, CREATE, DELETE, DELETE_SELF, MODIFY, MOVED_FROM, MOVED_TO, MOVE_SELF,
};
use crate::path::{c_string, AbsolutePath};
use crate::watches::books::{Books, Count};
use crate::watches::change::Change;
use crate::watches::changes::Changes;
use crate::watches::events::Queue;
use crate::watches::scan::{Content, Place, Scan};

/// Of one watch.
pub const MAX_DIRECTORIES: usize = 65_536;

const CHILD_MASK: u32 = CREATE | DELETE | MODIFY | ATTRIB | MOVED_FROM | MOVED_TO;
const ROOT_MASK: u32 = CHILD_MASK | DELETE_SELF | MOVE_SELF;
/// Of the directory above the root. DELETE_SELF comes only once nobody holds the directory any more,
/// as does who works in it.
const ABOVE_MASK: u32 = DELETE | MOVED_FROM;

/// Where changes are told, and whether long work is to be gone on with.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    pub changes: &'a Changes,
    pub goes_on: &'a dyn Fn() -> bool,
}

pub struct Tree {
    pub path: AbsolutePath,
    pub books: Books,
    pub queue: Queue,
    inotify: Arc<Inotify>,
    /// The directory above the root, and the root's name there.
    above: Option<(i32, Vec<u8>)>,
    is_recursive: bool,
    count: Count,
    /// Directories whose parent is on its way to another path, which later events tell.
    late: BTreeSet<Place>,
    /// There was no end to what happened while all was gone through.
    pub is_lost: bool,
}

/// How following went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    Well,
    /// The books cannot be put right.
    Lost,
}

enum Entered {
    New(Scan),
    /// It is followed already, or there is nothing to follow, or a later event brings it.
    Nothing,
    /// Its parent is not where the books have it.
    Late,
    /// Nothing will be known of what happens beneath.
    Refused,
    Lost,
}

impl Tree {
    /// Follows from now on.
    pub fn new(
        path: AbsolutePath,
        is_recursive: bool,
        all: Arc<AtomicUsize>,
        work: Work<'_>,
    ) -> Result<Tree> {
        let inotify = Arc::new(Inotify::new().map_err(|error| no_room(error.into()))?);
        let root = inotify.add(&Directory::open_itself(&path)?, ROOT_MASK).map_err(no_room)?;
        let mut tree = Tree {
            above: watch_above(&inotify, &path),
            books: Books::new(root),
            queue: Queue::new(Arc::clone(&inotify)),
            inotify,
            path,
            is_recursive,
            count: Count::new(all),
            late: BTreeSet::new(),
            is_lost: false,
        };
        tree.is_lost = tree.follow_all(work)? == Followed::Lost;
        Ok(tree)
    }

    pub fn inotify(&self) -> &Arc<Inotify> {
        &self.inotify
    }

    pub fn absolute(&self, wd: i32, name: &[u8]) -> Vec<u8> {
        match &*self.books.path(wd, name) {
            [] => self.path.bytes().to_vec(),
            relative => self.path.join(relative).bytes().to_vec(),
        }
    }

    /// Whether this may be the end of the root: its name has left the directory above.
    pub fn is_about_root(&self, wd: i32, name: &[u8]) -> bool {
        matches!(&self.above, Some((above, root)) if *above == wd && **root == *name)
    }

    /// Whether the root is where it was.
    pub fn is_root_there(&self) -> bool {
        !matches!(self.reach(self.books.root), Err(error) if is_gone(error))
    }

    /// A directory has come to a place.
    pub fn follow(&mut self, parent: i32, name: &[u8], work: Work<'_>) -> Result<Followed> {
        if !self.is_recursive {
            return Ok(Followed::Well);
        }
        self.follow_places(vec![(parent, Box::from(name))], Content::Told, work)
    }

    /// A directory was renamed. What was at the new place must have been empty.
    pub fn carry(
        &mut self,
        from: (i32, &[u8]),
        to: (i32, &[u8]),
        work: Work<'_>,
    ) -> Result<Followed> {
        self.late.remove(&(from.0, Box::from(from.1)));
        let moved = match self.books.at(from.0, from.1) {
            Some(moved) => moved,
            None => return self.follow(to.0, to.1, work),
        };
        if self.books.is_within(to.0, moved) {
            return Ok(Followed::Lost);
        }
        self.leave(to.0, to.1);
        self.books.put(moved, to.0, to.1);
        self.follow_late(work)
    }

    /// Those whose parents were on their way may have arrived.
    pub fn follow_late(&mut self, work: Work<'_>) -> Result<Followed> {
        let places = take(&mut self.late).into_iter().collect();
        self.follow_places(places, Content::Told, work)
    }

    pub fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Forgets where all are but the root, and goes through all there is. What is found is not told.
    pub fn follow_anew(&mut self, work: Work<'_>) -> Result<()> {
        let old = self.books.descriptors();
        self.count.sub(old.len());
        self.books = Books::new(self.books.root);
        self.late = BTreeSet::new();
        self.is_lost = self.follow_all(work)? == Followed::Lost;
        for wd in old.into_iter().filter(|wd| !self.books.contains(*wd)) {
            self.inotify.remove(wd);
        }
        Ok(())
    }

    /// A name has left its directory.
    pub fn leave(&mut self, parent: i32, name: &[u8]) {
        if !self.late.is_empty() {
            self.late.remove(&(parent, Box::from(name)));
        }
        if let Some(wd) = self.books.at(parent, name) {
            self.unfollow(wd);
        }
    }

    pub fn unfollow(&mut self, wd: i32) {
        let gone = self.books.remove(wd);
        self.count.sub(gone.len());
        gone.into_iter().for_each(|wd| self.inotify.remove(wd));
    }

    fn follow_all(&mut self, work: Work<'_>) -> Result<Followed> {
        if !self.is_recursive {
            return Ok(Followed::Well);
        }
        let mut places = Vec::new();
        let (wd, mark) = (self.books.root, self.queue.mark());
        let directory = Directory::open_itself(&self.path)?;
        match self.scan(Scan { wd, directory, mark }, Content::Known, &mut places, work)? {
            Followed::Well => self.follow_places(places, Content::Known, work),
            Followed::Lost => Ok(Followed::Lost),
        }
    }

    fn follow_places(
        &mut self,
        mut places: Vec<Place>,
        content: Content,
        work: Work<'_>,
    ) -> Result<Followed> {
        while let Some((parent, name)) = places.pop() {
            if !(work.goes_on)() {
                return Err(Error::Closed);
            }
            match self.enter(parent, &name, content)? {
                Entered::New(scan) => {
                    if self.scan(scan, content, &mut places, work)? == Followed::Lost {
                        return Ok(Followed::Lost);
                    }
                }
                Entered::Nothing => {}
                Entered::Refused => self.refuse(parent, &name, work),
                Entered::Late if self.late.len() < MAX_DIRECTORIES => {
                    self.late.insert((parent, name));
                }
                Entered::Late | Entered::Lost => return Ok(Followed::Lost),
            }
        }
        Ok(Followed::Well)
    }

    /// Has the kernel watch what is at a place.
    fn enter(&mut self, parent: i32, name: &[u8], content: Content) -> Result<Entered> {
        if !self.books.contains(parent) {
            return Ok(Entered::Nothing);
        }
        let above = match self.reach(parent) {
            Ok(above) => above,
            Err(error) if is_gone(error) => return Ok(Entered::Late),
            Err(_) => return Ok(Entered::Refused),
        };
        let mark = self.queue.mark();
        let added = above
            .open_child(&c_string(name)?)
            .and_then(|directory| Ok((self.inotify.add(&directory, CHILD_MASK)?, directory)));
        let (wd, directory) = match added {
            Ok(added) => added,
            Err(error) if is_gone(error) => return Ok(Entered::Nothing),
            Err(_) => return Ok(Entered::Refused),
        };
        above.wait_for_changes();
        if !self.queue.read_all()? {
            return Ok(Entered::Lost);
        }
        if self.queue.is_moving(parent, name) {
            self.let_go(wd);
            return Ok(Entered::Nothing);
        }
        self.write_down(Scan { wd, directory, mark }, parent, name, content)
    }

    /// Opens a followed directory, if it is where the books have it; ENOENT if it is not.
    fn reach(&self, wd: i32) -> Result<Directory> {
        let path = AbsolutePath::parse(&self.absolute(wd, b""))?;
        let directory = Directory::open_itself(&path)?;
        let mask = if wd == self.books.root { ROOT_MASK } else { CHILD_MASK };
        let found = self.inotify.add(&directory, mask)?;
        if found != wd {
            self.let_go(found);
            return Err(Error::System(errno::ENOENT));
        }
        Ok(directory)
    }

    fn write_down(
        &mut self,
        mut scan: Scan,
        parent: i32,
        name: &[u8],
        content: Content,
    ) -> Result<Entered> {
        if self.books.at(parent, name) == Some(scan.wd) {
            return Ok(Entered::Nothing);
        }
        if self.books.contains(scan.wd) {
            if content == Content::Known {
                // It is at two places, as what is mounted twice is, and is told of at the first.
                return Ok(Entered::Refused);
            }
            if self.books.is_within(parent, scan.wd) {
                return Ok(Entered::Lost);
            }
            // It came into this directory before that was followed, and is all told of anew.
            self.unfollow(scan.wd);
            scan.mark = self.queue.mark();
            scan.wd = match self.inotify.add(&scan.directory, CHILD_MASK) {
                Ok(wd) => wd,
                Err(_) => return Ok(Entered::Refused),
            };
        }
        if !self.has_room(0) {
            self.let_go(scan.wd);
            return Ok(Entered::Refused);
        }
        self.leave(parent, name);
        self.count.add(1);
        self.books.put(scan.wd, parent, name);
        Ok(Entered::New(scan))
    }

    pub(super) fn refuse(&self, parent: i32, name: &[u8], work: Work<'_>) {
        work.changes.push(Change::overflow(Some(self.absolute(parent, name))));
    }

    /// The kernel need not watch for us what is not in the books.
    fn let_go(&self, wd: i32) {
        let is_above = matches!(&self.above, Some((above, _)) if *above == wd);
        if !is_above && !self.books.contains(wd) {
            self.inotify.remove(wd);
        }
    }

    pub(super) fn has_room(&self, besides: usize) -> bool {
        self.books.len() + besides < MAX_DIRECTORIES && self.count.has_room()
    }
}

fn watch_above(inotify: &Inotify, path: &AbsolutePath) -> Option<(i32, Vec<u8>)> {
    let (parent, name) = path.split().ok()??;
    let parent = Directory::open(&parent).ok()?;
    // Without it, the end of the root is heard of later, once nobody holds it.
    Some((inotify.add(&parent, ABOVE_MASK).ok()?, name))
}

/// Whether there is no directory of that name, where a directory was.
fn is_gone(error: Error) -> bool {
    matches!(error, Error::System(errno::ENOENT | errno::ENOTDIR | errno::ELOOP))
}

fn no_room(error: Error) -> Error {
    match error {
        Error::System(errno::EMFILE | errno::ENFILE) => {
            Error::Limit("the kernel gives no more inotify instances")
        }
        Error::System(errno::ENOSPC) => Error::Limit("the kernel gives no more inotify watches"),
        other => other,
    }
}
