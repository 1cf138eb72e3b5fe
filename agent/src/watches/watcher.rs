// SPDX-License-Identifier: Apache-2.0
//! From the kernel's events to changes.

use std::sync::atomic::AtomicUsize;
use std::sync::Arc;

use crate::error::Result;
use crate::file_unsafe::{stat_at, AT_SYMLINK_NOFOLLOW, CWD};
use crate::inotify_unsafe::{
    Inotify, ATTRIB, CREATE, DELETE, DELETE_SELF, IGNORED, IS_DIRECTORY, MODIFY, MOVED_FROM,
    MOVED_TO, MOVE_SELF, QUEUE_OVERFLOW, UNMOUNT,
};
use crate::path::{c_string, AbsolutePath};
use crate::watches::change::{Change, End, Kind};
use crate::watches::events::Event;
use crate::watches::follow::{Followed, Tree, Work};
use crate::watches::temporary::{read_temporary, Empty, Temporary};

/// gVisor queues without end, where Linux says after 16,384 events that its queue overran. Beyond
/// this it is as if gVisor had said so too.
const MAX_QUEUED_BYTES: u64 = 8 << 20;

pub struct Watcher {
    tree: Tree,
    empty: Empty,
    /// From where to where, if the event before was a rename.
    last_rename: Option<Rename>,
}

#[derive(PartialEq, Eq)]
struct Rename {
    from: Vec<u8>,
    to: Vec<u8>,
}

/// Whether the watch goes on.
pub type Flow = Result<Option<End>>;

impl Watcher {
    /// Active when it is returned.
    pub fn new(
        path: AbsolutePath,
        is_recursive: bool,
        directories: Arc<AtomicUsize>,
        work: Work<'_>,
    ) -> Result<Watcher> {
        let tree = Tree::new(path, is_recursive, directories, work)?;
        Ok(Watcher { tree, empty: Empty::default(), last_rename: None })
    }

    pub fn inotify(&self) -> &Arc<Inotify> {
        self.tree.inotify()
    }

    /// Whether events were read that are still to be taken in.
    pub fn has_more(&self) -> bool {
        !self.tree.queue.is_empty()
    }

    /// Takes in what the kernel has queued until now.
    pub fn take_in(&mut self, work: Work<'_>) -> Flow {
        let until = self.tree.queue.end()?;
        if self.tree.is_lost || until - self.tree.queue.position() > MAX_QUEUED_BYTES {
            return self.begin_anew(work);
        }
        while self.tree.queue.position() < until {
            let event = match self.tree.queue.next_event()? {
                Some(event) => event,
                None => break,
            };
            if let Some(end) = self.apply(&event, work)? {
                return Ok(Some(end));
            }
        }
        self.settle(work)
    }

    /// The event that brings those whose parents are on their way is still to come, unless all that
    /// lies above the root is.
    fn settle(&mut self, work: Work<'_>) -> Flow {
        if !self.tree.has_late() || !self.tree.queue.is_empty() {
            return Ok(None);
        }
        if self.tree.follow_late(work)? == Followed::Lost {
            return self.begin_anew(work);
        }
        Ok(if self.tree.has_late() { self.end_if_gone(work) } else { None })
    }

    fn apply(&mut self, event: &Event, work: Work<'_>) -> Flow {
        if event.mask == 0 {
            return Ok(None);
        }
        let last_rename = self.last_rename.take();
        if event.has(QUEUE_OVERFLOW) {
            return self.begin_anew(work);
        }
        if self.tree.is_about_root(event.wd, &event.name) {
            return Ok(self.end_if_gone(work));
        }
        if !self.tree.books.contains(event.wd) {
            return Ok(None);
        }
        if event.name.is_empty() {
            return Ok(self.apply_to_itself(event, work));
        }
        let temporary = read_temporary(&event.name);
        match temporary {
            _ if event.has(MOVED_FROM) => self.apply_move(event, temporary, last_rename, work),
            Some(temporary) => {
                self.apply_to_temporary(event, temporary);
                Ok(None)
            }
            None => self.apply_to_name(event, work),
        }
    }

    /// What happens to a followed directory as such. Of all but the root, its parent tells.
    fn apply_to_itself(&mut self, event: &Event, work: Work<'_>) -> Option<End> {
        let is_root = event.wd == self.tree.books.root;
        if is_root && event.has(DELETE_SELF | MOVE_SELF | UNMOUNT | IGNORED) {
            return Some(self.end(work));
        }
        if is_root && event.has(ATTRIB) {
            self.tell(Kind::Attributes, event, work);
        } else if event.has(UNMOUNT) {
            work.changes.push(Change::overflow(Some(self.tree.absolute(event.wd, b""))));
        } else if event.has(IGNORED) {
            self.tree.unfollow(event.wd);
        }
        None
    }

    fn apply_to_name(&mut self, event: &Event, work: Work<'_>) -> Flow {
        if event.has(CREATE | MOVED_TO) {
            self.tell(Kind::Created, event, work);
            if event.has(IS_DIRECTORY) {
                let followed = self.tree.follow(event.wd, &event.name, work)?;
                return self.go_on_after(followed, work);
            }
        } else if event.has(DELETE) {
            self.tree.leave(event.wd, &event.name);
            self.tell(Kind::Removed, event, work);
        } else if event.has(MODIFY) {
            self.tell(Kind::Modified, event, work);
        } else if event.has(ATTRIB) {
            self.tell(Kind::Attributes, event, work);
        }
        Ok(None)
    }

    fn apply_to_temporary(&mut self, event: &Event, temporary: Temporary) {
        if event.has(CREATE) {
            self.empty.made(temporary);
        } else if event.has(MODIFY | DELETE) {
            self.empty.forget(temporary);
        }
    }

    /// A name has left its directory; perhaps it has come to another one.
    fn apply_move(
        &mut self,
        event: &Event,
        temporary: Option<Temporary>,
        last_rename: Option<Rename>,
        work: Work<'_>,
    ) -> Flow {
        let arrival = self.tree.queue.take_second_half(event.cookie)?.filter(|arrival| {
            let is_followed = self.tree.books.contains(arrival.wd);
            is_followed && read_temporary(&arrival.name).is_none()
        });
        match (arrival, temporary) {
            (Some(arrival), None) => self.rename(event, &arrival, last_rename, work),
            (Some(arrival), Some(temporary)) => {
                self.tell_written(&arrival, temporary, work);
                Ok(None)
            }
            (None, None) => {
                self.tree.leave(event.wd, &event.name);
                self.tell(Kind::Removed, event, work);
                Ok(None)
            }
            (None, Some(_)) => Ok(None),
        }
    }

    fn rename(
        &mut self,
        event: &Event,
        arrival: &Event,
        last_rename: Option<Rename>,
        work: Work<'_>,
    ) -> Flow {
        let is_directory = event.has(IS_DIRECTORY);
        let (from, to) = ((event.wd, &*event.name), (arrival.wd, &*arrival.name));
        let rename =
            Rename { from: self.tree.absolute(from.0, from.1), to: self.tree.absolute(to.0, to.1) };
        let change = Change::renamed(rename.from.clone(), rename.to.clone(), is_directory);
        work.changes.push(change);
        if rename.is_reverse_of(last_rename) && self.is_still_there(from, &rename.from)? {
            // The two have been exchanged.
            return self.begin_anew(work);
        }
        self.last_rename = Some(rename);
        match is_directory {
            true => {
                let followed = self.tree.carry(from, to, work)?;
                self.go_on_after(followed, work)
            }
            false => Ok(None),
        }
    }

    /// Whether there is something at a place although its name has left, and nothing has come since.
    fn is_still_there(&mut self, place: (i32, &[u8]), path: &[u8]) -> Result<bool> {
        let is_there = stat_at(&CWD, &c_string(path)?, AT_SYMLINK_NOFOLLOW).is_ok();
        Ok(is_there && self.tree.queue.read_all()? && !self.tree.queue.names(place.0, place.1))
    }

    /// A temporary file of ours has become what it was to be.
    fn tell_written(&mut self, arrival: &Event, temporary: Temporary, work: Work<'_>) {
        let is_empty = self.empty.forget(temporary);
        if !temporary.replaces {
            self.tell(Kind::Created, arrival, work);
        }
        if temporary.replaces || !is_empty {
            self.tell(Kind::Modified, arrival, work);
        }
    }

    fn tell(&self, kind: Kind, event: &Event, work: Work<'_>) {
        let path = self.tree.absolute(event.wd, &event.name);
        // Of the directory itself the kernel does not say what it is.
        let is_directory = event.has(IS_DIRECTORY) || event.name.is_empty();
        work.changes.push(Change::new(kind, path, is_directory));
    }

    fn go_on_after(&mut self, followed: Followed, work: Work<'_>) -> Flow {
        match followed {
            Followed::Well => Ok(None),
            Followed::Lost => self.begin_anew(work),
        }
    }

    /// Nobody can say what has happened: what there is now is followed.
    fn begin_anew(&mut self, work: Work<'_>) -> Flow {
        self.tree.queue.discard(self.tree.queue.end()?)?;
        if let Some(end) = self.end_if_gone(work) {
            return Ok(Some(end));
        }
        self.tree.follow_anew(work)?;
        work.changes.push(Change::overflow(None));
        Ok(None)
    }

    fn end_if_gone(&self, work: Work<'_>) -> Option<End> {
        Some(self).filter(|watcher| !watcher.tree.is_root_there()).map(|watcher| watcher.end(work))
    }

    fn end(&self, work: Work<'_>) -> End {
        let path = self.tree.path.bytes().to_vec();
        work.changes.push(Change::new(Kind::Removed, path, true));
        End::Removed
    }
}

impl Rename {
    /// Two names that are exchanged look like a rename and its reverse.
    fn is_reverse_of(&self, last: Option<Rename>) -> bool {
        last.map_or(false, |last| last.from == self.to && last.to == self.from)
    }
}
