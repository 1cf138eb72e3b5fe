// SPDX-License-Identifier: Apache-2.0
//! Who descends from whom, as `/proc` shows it. Only reads; `process.rs` acts on it.
//!
//! A pid read here may have ended, and in theory been given to another process of the same
//! sandbox, before it is signalled. Pids are handed out in a circle, so that takes a full turn of
//! the pid space within microseconds; nothing outside the sandbox can ever be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};

/// The running descendants of `roots`, without the roots. Zombies are left out, what descends from
/// them cannot exist: their children were given to the supervisor.
pub fn live_descendants(roots: &[i32]) -> io::Result<Vec<i32>> {
    let mut children: BTreeMap<i32, Vec<Row>> = BTreeMap::new();
    for row in rows()? {
        children.entry(row.parent).or_default().push(row);
    }
    let mut found = Vec::new();
    let mut seen: BTreeSet<i32> = roots.iter().copied().collect();
    let mut waiting = roots.to_vec();
    while let Some(parent) = waiting.pop() {
        for row in children.remove(&parent).unwrap_or_default() {
            if seen.insert(row.pid) {
                waiting.push(row.pid);
                found.extend(Some(row.pid).filter(|_| row.is_live));
            }
        }
    }
    Ok(found)
}

/// How much memory a process holds; 0 for one that has ended.
pub fn resident_pages(pid: i32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{}/statm", pid)).unwrap_or_default();
    statm.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

struct Row {
    pid: i32,
    parent: i32,
    is_live: bool,
}

fn rows() -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        // A process that ends between listing and reading is simply not there.
        rows.extend(pid.and_then(read_row));
    }
    Ok(rows)
}

fn read_row(pid: i32) -> Option<Row> {
    // The fields we need stand in the first 64 bytes or so; the name has at most 15.
    let mut stat = [0u8; 256];
    let length = File::open(format!("/proc/{}/stat", pid)).ok()?.read(&mut stat).ok()?;
    parse_stat(pid, stat.get(..length)?)
}

/// `pid (name) state parent …`, where the name may hold blanks and parentheses of its own.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Row> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    let mut words = rest.split_ascii_whitespace();
    let state = words.next()?;
    let parent = words.next()?.parse().ok()?;
    Some(Row { pid, parent, is_live: state != "Z" && state != "X" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_hostile_name_is_read() {
        let row = parse_stat(7, b"7 (a) S 1 (b)) R 42 7 7 0").unwrap();

        assert_eq!((row.pid, row.parent, row.is_live), (7, 42, true));
    }

    #[test]
    fn zombie_is_not_live() {
        assert!(!parse_stat(7, b"7 (sh) Z 1 7 7 0").unwrap().is_live);
    }

    #[test]
    fn garbage_is_no_row() {
        assert!(parse_stat(7, b"").is_none());
        assert!(parse_stat(7, b"7 (x) S").is_none());
    }
}
