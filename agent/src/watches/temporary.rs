// SPDX-License-Identifier: Apache-2.0
//! The agent's own temporary files, which stand beside what they become and are never told.
//!
//! Their names say what becomes of them, so that a watcher knows from the kernel's events alone
//! whether the rename that ends them makes a file or replaces one.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::path::c_string;

/// Beyond it, a file is told to have content though it may have none.
const MAX_EMPTY: usize = 1024;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A name that no other operation of ours uses, for a file that will be renamed or removed.
pub fn temporary_name(replaces: bool) -> Result<CString> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let fate = if replaces { "old" } else { "new" };
    c_string(format!(".atoll-{}-{}.{}", process::id(), number, fate).as_bytes())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Temporary {
    pub number: u64,
    pub replaces: bool,
}

/// Only names that have been given out: others that look like ours are anybody's.
pub fn read_temporary(name: &[u8]) -> Option<Temporary> {
    let rest = name.strip_prefix(b".atoll-")?;
    let rest = std::str::from_utf8(rest).ok()?.strip_prefix(&process::id().to_string())?;
    let (number, fate) = rest.strip_prefix('-')?.split_once('.')?;
    let number = number.parse().ok().filter(|number| *number < NEXT.load(Ordering::Relaxed))?;
    match fate {
        "old" => Some(Temporary { number, replaces: true }),
        "new" => Some(Temporary { number, replaces: false }),
        _ => None,
    }
}

/// Which of them have no content yet, as far as has been seen.
#[derive(Default)]
pub struct Empty(BTreeSet<u64>);

impl Empty {
    pub fn made(&mut self, temporary: Temporary) {
        if self.0.len() < MAX_EMPTY {
            self.0.insert(temporary.number);
        }
    }

    /// True if it had none.
    pub fn forget(&mut self, temporary: Temporary) -> bool {
        self.0.remove(&temporary.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_are_known_and_no_others() {
        let new = temporary_name(false).unwrap();
        let old = temporary_name(true).unwrap();
        let ahead = format!(".atoll-{}-{}.new", process::id(), u64::MAX);

        assert!(!read_temporary(new.as_bytes()).unwrap().replaces);
        assert!(read_temporary(old.as_bytes()).unwrap().replaces);
        for name in [".atoll-", ".atoll-1-0.tmp", "a", ".atoll-0-0.new", &ahead] {
            assert_eq!(read_temporary(name.as_bytes()), None, "{}", name);
        }
    }
}
