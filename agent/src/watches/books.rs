// SPDX-License-Identifier: Apache-2.0
//! Which directories are followed and where they are, by the kernel's watch descriptors. Knows
//! nothing of the kernel: what is written here is as true as the events that have been read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// In the books of all watches.
const MAX_ALL_DIRECTORIES: usize = 4 << 16;

type Name = Arc<[u8]>;

pub struct Books {
    pub root: i32,
    nodes: BTreeMap<i32, (i32, Name)>,
    /// By where they are.
    places: BTreeMap<(i32, Name), i32>,
}

impl Books {
    pub fn new(root: i32) -> Books {
        Books { root, nodes: BTreeMap::new(), places: BTreeMap::new() }
    }

    pub fn len(&self) -> usize {
        self.nodes.len() + 1
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn contains(&self, wd: i32) -> bool {
        wd == self.root || self.nodes.contains_key(&wd)
    }

    /// Who is at a place.
    pub fn at(&self, parent: i32, name: &[u8]) -> Option<i32> {
        self.places.get(&(parent, Name::from(name))).copied()
    }

    /// The path of `name` in a directory, relative to the root; an empty name is the directory itself.
    pub fn path(&self, wd: i32, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name];
        let mut next = wd;
        while let Some((parent, name)) = self.nodes.get(&next) {
            names.push(name);
            next = *parent;
        }
        let names = names.into_iter().rev().filter(|name| !name.is_empty());
        names.collect::<Vec<&[u8]>>().join(&b'/')
    }

    /// Whether `wd` is `above` itself or lies beneath it.
    pub fn is_within(&self, wd: i32, above: i32) -> bool {
        let mut next = wd;
        while next != above {
            match self.nodes.get(&next) {
                Some((parent, _)) => next = *parent,
                None => return false,
            }
        }
        true
    }

    /// Puts a directory, new or not, with all that is beneath it, to a free place. Only where the
    /// place is not within itself: `path` would never end.
    pub fn put(&mut self, wd: i32, parent: i32, name: &[u8]) {
        self.leave_place(wd);
        let name = Name::from(name);
        self.nodes.insert(wd, (parent, Arc::clone(&name)));
        self.places.insert((parent, name), wd);
    }

    /// Forgets a directory and all beneath it, and says which those were.
    pub fn remove(&mut self, wd: i32) -> Vec<i32> {
        self.leave_place(wd);
        let mut found = vec![wd];
        let mut next = 0;
        while let Some(wd) = found.get(next).copied() {
            self.nodes.remove(&wd);
            let children: Vec<(i32, Name)> = self.children(wd).cloned().collect();
            found.extend(children.into_iter().filter_map(|place| self.places.remove(&place)));
            next += 1;
        }
        found
    }

    /// Of all but the root.
    pub fn descriptors(&self) -> Vec<i32> {
        self.nodes.keys().copied().collect()
    }

    fn children(&self, wd: i32) -> impl Iterator<Item = &(i32, Name)> {
        let first = (wd, Name::from(&b""[..]));
        self.places.range(first..).map(|(place, _)| place).take_while(move |place| place.0 == wd)
    }

    fn leave_place(&mut self, wd: i32) {
        if let Some(place) = self.nodes.remove(&wd) {
            self.places.remove(&place);
        }
    }
}

/// The directories of one watch but the root, as part of those of all.
pub struct Count {
    all: Arc<AtomicUsize>,
    own: usize,
}

impl Count {
    pub fn new(all: Arc<AtomicUsize>) -> Count {
        Count { all, own: 0 }
    }

    pub fn add(&mut self, count: usize) {
        self.own += count;
        self.all.fetch_add(count, Ordering::Relaxed);
    }

    pub fn sub(&mut self, count: usize) {
        self.own -= count;
        self.all.fetch_sub(count, Ordering::Relaxed);
    }

    pub fn has_room(&self) -> bool {
        self.all.load(Ordering::Relaxed) < MAX_ALL_DIRECTORIES
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let mut books = Books::new(1);
        for (wd, parent, name) in [(2, 1, "a"), (3, 2, "b"), (4, 3, "c"), (5, 1, "ab")] {
            books.put(wd, parent, name.as_bytes());
        }
        books
    }

    #[test]
    fn paths_lead_from_the_root() {
        let books = books();

        assert_eq!(books.path(4, b"x"), b"a/b/c/x");
        assert_eq!(books.path(3, b""), b"a/b");
        assert_eq!(books.path(1, b""), b"");
    }

    #[test]
    fn what_is_moved_takes_along_what_is_beneath() {
        let mut books = books();

        books.put(3, 5, b"n");

        assert_eq!(books.path(4, b""), b"ab/n/c");
        assert_eq!((books.at(2, b"b"), books.at(5, b"n")), (None, Some(3)));
        assert!(books.is_within(4, 5) && !books.is_within(4, 2));
    }

    #[test]
    fn what_is_removed_takes_along_what_is_beneath() {
        let mut books = books();

        let mut gone = books.remove(2);

        gone.sort_unstable();
        assert_eq!(gone, [2, 3, 4]);
        assert_eq!((books.len(), books.descriptors()), (2, vec![5]));
        assert!(!books.contains(4) && books.contains(1));
        assert_eq!(books.at(1, b"a"), None);
    }
}
