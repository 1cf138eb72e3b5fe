// SPDX-License-Identifier: Apache-2.0
//! The older part of a journal: a file without a name on the sandbox's own disk, written round and
//! round. Where a byte of the log stands follows from its offset alone, so nothing is parsed here.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::file_unsafe::{O_NOFOLLOW, O_TMPFILE};

/// The first is in every image that we make; both are on the sandbox's disk, not in its memory.
const FOLDERS: [&str; 2] = ["/run/atoll", "/var/tmp"];
const FILE_MODE: u32 = 0o600;

pub struct Spill {
    ring_bytes: u64,
    file: Option<File>,
    is_broken: bool,
}

impl Spill {
    /// Nothing is opened before the first write.
    pub fn new(ring_bytes: u64) -> Spill {
        Spill { ring_bytes, file: None, is_broken: false }
    }

    /// As where the disk is full.
    #[cfg(test)]
    pub fn broken() -> Spill {
        Spill { is_broken: true, ..Spill::new(1) }
    }

    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// Whether a write has failed: none is tried again, what was written before can be read.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// False where the disk takes no more.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> bool {
        self.is_broken = self.is_broken || self.try_write(offset, bytes).is_err();
        !self.is_broken
    }

    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let at = offset % self.ring_bytes;
        let (first, second) = bytes.split_at_mut(self.before_wrap(at, bytes.len()));
        file.read_exact_at(first, at)?;
        file.read_exact_at(second, 0)
    }

    /// Gives the disk back what nobody will read again.
    pub fn clear(&mut self) {
        self.file = None;
    }

    fn try_write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(create()?);
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let at = offset % self.ring_bytes;
        let (first, second) = bytes.split_at(self.before_wrap(at, bytes.len()));
        file.write_all_at(first, at)?;
        file.write_all_at(second, 0)
    }

    fn before_wrap(&self, at: u64, length: usize) -> usize {
        usize::try_from(self.ring_bytes - at).unwrap_or(usize::MAX).min(length)
    }
}

fn create() -> io::Result<File> {
    let mut last = io::ErrorKind::NotFound.into();
    for folder in FOLDERS {
        match create_in(Path::new(folder)) {
            Ok(file) => return Ok(file),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn create_in(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    if let Ok(file) = options.clone().custom_flags(O_TMPFILE).open(folder) {
        return Ok(file);
    }
    // Not every file system can make a file without a name.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".atoll-journal-{}-{}", std::process::id(), number));
    let file = options.create_new(true).custom_flags(O_NOFOLLOW).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_over_the_wrap_is_read_back() {
        let mut spill = Spill::new(1000);

        assert!(spill.write(0, &[1; 900]));
        assert!(spill.write(900, &[2; 300]));

        let mut read = [0; 600];
        spill.read(600, &mut read).unwrap();
        assert!(read[..300].iter().all(|byte| *byte == 1));
        assert!(read[300..].iter().all(|byte| *byte == 2));
    }
}
