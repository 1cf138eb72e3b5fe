// SPDX-License-Identifier: Apache-2.0
//! The memory that bytes pass through on their way, and what of them waits in it to be taken.

/// Waking up costs gVisor more than the bytes do: with 64 KiB at once they took three times the processor.
const LARGE_BYTES: usize = 512 << 10;
const SMALL_BYTES: usize = 64 << 10;
/// Where there are more connections each may hold less, as many that nobody reads must not take all memory.
const MAX_LARGE_LINKS: usize = 32;
/// The first touch of a page costs gVisor more than what passes through it, so that few are let go at once.
const MAX_SPARE: usize = 16;

/// Lent to connections for as long as something waits in them, and kept for the next.
#[derive(Default)]
pub struct Buffers {
    spare: Vec<Vec<u8>>,
    links: usize,
}

impl Buffers {
    /// How many connections there are.
    pub fn fit(&mut self, links: usize) {
        self.links = links;
    }

    pub fn take(&mut self) -> Vec<u8> {
        // Fresh zeroed pages cost nothing until bytes arrive in them.
        self.spare.pop().unwrap_or_else(|| vec![0; self.size()])
    }

    pub fn give_back(&mut self, buffer: Vec<u8>) {
        if buffer.len() >= self.size() && self.spare.len() < MAX_SPARE {
            self.spare.push(buffer);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.spare.is_empty()
    }

    /// Gives the memory of all that are kept to the kernel.
    pub fn clear(&mut self) {
        self.spare = Vec::new();
    }

    fn size(&self) -> usize {
        if self.links > MAX_LARGE_LINKS {
            SMALL_BYTES
        } else {
            LARGE_BYTES
        }
    }
}

/// What is left of the bytes in a buffer.
pub struct Held {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Held {
    pub fn whole(buffer: Vec<u8>) -> Held {
        let end = buffer.len();
        Held::new(buffer, end)
    }

    /// The first `end` bytes of `buffer`.
    pub fn new(buffer: Vec<u8>, end: usize) -> Held {
        Held { buffer, start: 0, end }
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The first `count` of the rest have been taken.
    pub fn advance(&mut self, count: usize) {
        self.start += count;
    }

    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_many_connections_may_hold_less() {
        let mut buffers = Buffers::default();

        buffers.fit(MAX_LARGE_LINKS);
        assert_eq!(buffers.take().len(), LARGE_BYTES);
        buffers.fit(MAX_LARGE_LINKS + 1);
        let small = buffers.take();
        assert_eq!(small.len(), SMALL_BYTES);
        buffers.give_back(small);
        assert!(!buffers.is_empty());
    }

    #[test]
    fn small_ones_are_not_kept_for_few_connections() {
        let mut buffers = Buffers::default();
        buffers.fit(MAX_LARGE_LINKS + 1);
        let small = buffers.take();

        buffers.fit(1);
        buffers.give_back(small);

        assert!(buffers.is_empty());
    }

    #[test]
    fn few_are_kept_and_none_once_cleared() {
        let mut buffers = Buffers::default();
        let taken: Vec<_> = (0..=MAX_SPARE).map(|_| buffers.take()).collect();

        taken.into_iter().for_each(|buffer| buffers.give_back(buffer));
        buffers.give_back(vec![0; 5]);

        assert_eq!(buffers.spare.len(), MAX_SPARE);
        assert!(buffers.spare.iter().all(|spare| spare.len() == LARGE_BYTES));
        buffers.clear();
        assert!(buffers.is_empty());
    }
}
