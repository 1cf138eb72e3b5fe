// SPDX-License-Identifier: Apache-2.0
//! Whose a listening socket is, as far as we may see it.

use std::collections::HashMap;
use std::fs;
use std::io::Read;

/// Of all processes together. Beyond it owners stay unknown, which harms nobody.
const MAX_FILES: usize = 65_536;
const MAX_COMMAND_BYTES: u64 = 256;

#[derive(Debug, Clone)]
pub struct Owner {
    pub pid: u32,
    /// The first of its command line, the words with spaces between them.
    pub command: Vec<u8>,
}

/// The owners of sockets by their inodes. Of several processes with the same one the first counts,
/// which is mostly the parent.
pub fn owners(inodes: &[u64]) -> HashMap<u64, Owner> {
    let mut found = HashMap::new();
    if inodes.is_empty() {
        return found;
    }
    let mut budget = MAX_FILES;
    for pid in pids() {
        for inode in sockets(pid, &mut budget) {
            if inodes.contains(&inode) {
                found.entry(inode).or_insert_with(|| Owner { pid, command: command(pid) });
            }
        }
    }
    found
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// The sockets that a process has open; none of one whose files we may not see.
fn sockets(pid: u32, budget: &mut usize) -> Vec<u64> {
    let files = fs::read_dir(format!("/proc/{}/fd", pid)).into_iter().flatten();
    let mut inodes = Vec::new();
    for file in files.filter_map(Result::ok) {
        if *budget == 0 {
            break;
        }
        *budget -= 1;
        let target = fs::read_link(file.path()).unwrap_or_default();
        inodes.extend(target.to_str().and_then(socket_inode));
    }
    inodes
}

fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn command(pid: u32) -> Vec<u8> {
    let mut words = Vec::new();
    if let Ok(file) = fs::File::open(format!("/proc/{}/cmdline", pid)) {
        // What can be read is what there is to say.
        let _ = file.take(MAX_COMMAND_BYTES).read_to_end(&mut words);
    }
    let length = words.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    words.truncate(length);
    words.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    words
}
