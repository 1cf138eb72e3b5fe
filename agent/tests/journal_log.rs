// SPDX-License-Identifier: Apache-2.0
//! The journal alone, against a reference that forgets nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation)]

use atoll_agent::error::Error;
use atoll_agent::frame::{push_frame, Header, Kind, HEADER_BYTES};
use atoll_agent::journal::{Journal, Offer};
use atoll_agent::log::Excerpt;

const KIB: u64 = 1 << 10;

/// xorshift64*: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Every byte ever written, in the order of positions: which stream, and what.
#[derive(Default)]
struct Reference {
    bytes: Vec<(bool, u8)>,
}

impl Reference {
    fn streams_before(&self, position: u64) -> [u64; 2] {
        let before = &self.bytes[..position as usize];
        let stderr = before.iter().filter(|(is_stderr, _)| *is_stderr).count() as u64;
        [position - stderr, stderr]
    }
}

fn byte_at(position: u64) -> u8 {
    (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Writes one frame of at most `length` bytes; false if there is no room.
fn write(journal: &Journal, reference: &mut Reference, is_stderr: bool, length: usize) -> bool {
    let position = reference.bytes.len() as u64;
    let kind = if is_stderr { Kind::Stderr } else { Kind::Stdout };
    let count = journal.append(kind, length, |room| {
        for (index, byte) in room.iter_mut().enumerate() {
            *byte = byte_at(position + index as u64);
        }
        Ok(room.len())
    });
    let count = count.unwrap().unwrap_or(0) as u64;
    reference.bytes.extend((position..position + count).map(|at| (is_stderr, byte_at(at))));
    count > 0
}

struct Reader {
    id: u64,
    excerpt: Excerpt,
    wire: Vec<u8>,
    /// Of the next byte, as its frames have told.
    position: u64,
    streams: [u64; 2],
}

impl Reader {
    fn open(journal: &Journal, reference: &Reference, since: u64) -> Reader {
        let start = journal.open(Some(since)).unwrap();
        let position = start.place.position();
        assert_eq!(position, since + start.dropped);
        let streams = [start.place.stdout, start.place.stderr];
        assert_eq!(streams, reference.streams_before(position));
        let excerpt = Excerpt::default();
        Reader { id: start.reader, excerpt, wire: start.cut, position, streams }
    }

    /// Takes up to `length` bytes of the wire; whether there were any.
    fn take(&mut self, journal: &Journal, reference: &Reference, length: usize) -> bool {
        let wire = &mut self.wire;
        let offer = journal.offer(self.id, u64::MAX, &mut self.excerpt, |bytes| {
            let count = bytes.len().min(length);
            wire.extend_from_slice(&bytes[..count]);
            Ok(count)
        });
        let has_taken = offer.unwrap() == Offer::Taken;
        self.check_frames(reference);
        has_taken
    }

    fn check_frames(&mut self, reference: &Reference) {
        let mut at = 0;
        while let Some(head) = self.wire.get(at..at + HEADER_BYTES) {
            let header = Header::decode(head.try_into().unwrap()).unwrap();
            let payload = at + HEADER_BYTES..at + HEADER_BYTES + header.length;
            let payload = match self.wire.get(payload) {
                Some(payload) => payload,
                None => break,
            };
            let is_stderr = header.kind == Kind::Stderr;
            assert_eq!(header.offset, self.streams[usize::from(is_stderr)]);
            for byte in payload {
                assert_eq!((is_stderr, *byte), reference.bytes[self.position as usize]);
                self.position += 1;
            }
            self.streams[usize::from(is_stderr)] += header.length as u64;
            at += HEADER_BYTES + header.length;
        }
        self.wire.drain(..at);
    }
}

fn kept(journal: &Journal) -> u64 {
    let (first, end) = journal.extent();
    end.log - first.log
}

fn random_length(random: &mut Random) -> usize {
    let limit = [20, 200, 5_000, 70_000, 400_000][random.below(5) as usize];
    1 + random.below(limit) as usize
}

#[test]
fn random_frames_and_random_readers_give_the_reference_byte_for_byte() {
    for seed in 1..=25 {
        let mut random = Random(seed);
        let limit =
            [4 * KIB, 50 * KIB, 600 * KIB, 1000 * KIB, 3000 * KIB][random.below(5) as usize];
        let journal = Journal::new(limit);
        let (mut reference, mut readers) = (Reference::default(), Vec::new());
        for _ in 0..150 {
            match random.below(8) {
                0 if readers.len() < 4 => {
                    let since = random.below(reference.bytes.len() as u64 + 1);
                    readers.push(Reader::open(&journal, &reference, since));
                }
                1 if !readers.is_empty() => {
                    let reader: Reader =
                        readers.swap_remove(random.below(readers.len() as u64) as usize);
                    journal.close(reader.id);
                }
                2 | 3 => {
                    for reader in &mut readers {
                        let length = random_length(&mut random);
                        reader.take(&journal, &reference, length);
                    }
                }
                4 => {
                    for reader in &mut readers {
                        while reader.take(&journal, &reference, usize::MAX) {}
                        assert_eq!(reader.position, reference.bytes.len() as u64);
                    }
                }
                _ => {
                    let is_stderr = random.below(3) == 0;
                    let length = random_length(&mut random);
                    let has_room = write(&journal, &mut reference, is_stderr, length);
                    assert!(has_room || !readers.is_empty());
                }
            }
            assert!(kept(&journal) <= limit.max(4 * KIB));
        }
        journal.complete();
        journal.leave_memory();
        for mut reader in readers {
            while reader.take(&journal, &reference, 100_000) {}
            assert_eq!(reader.position, reference.bytes.len() as u64, "seed {}", seed);
            journal.close(reader.id);
        }
    }
}

#[test]
fn without_readers_the_oldest_output_goes_and_most_of_the_journal_stays() {
    let journal = Journal::new(2000 * KIB);
    let mut reference = Reference::default();

    for _ in 0..500 {
        assert!(write(&journal, &mut reference, false, 50_000));
        assert!(kept(&journal) <= 2000 * KIB);
    }

    assert!(kept(&journal) > 1700 * KIB);
    let mut reader = Reader::open(&journal, &reference, 0);
    assert!(reader.position > 22_000_000);
    while reader.take(&journal, &reference, usize::MAX) {}
    assert_eq!(reader.position, 25_000_000);
}

#[test]
fn what_a_reader_has_not_taken_is_never_dropped() {
    let journal = Journal::new(1000 * KIB);
    let mut reference = Reference::default();
    let mut reader = Reader::open(&journal, &reference, 0);

    while write(&journal, &mut reference, true, 30_000) {}

    assert!(kept(&journal) > 900 * KIB);
    assert!(journal.is_stalled());
    while reader.take(&journal, &reference, usize::MAX) {}
    assert_eq!(reader.position, reference.bytes.len() as u64);
    assert!(write(&journal, &mut reference, true, 30_000));
    assert!(!journal.is_stalled());
}

#[test]
fn a_reader_that_keeps_up_leaves_the_newest_part_alone() {
    let journal = Journal::new(1000 * KIB);
    let mut reference = Reference::default();
    let mut reader = Reader::open(&journal, &reference, 0);

    for round in 0..200 {
        assert!(write(&journal, &mut reference, false, 100_000));
        while reader.take(&journal, &reference, usize::MAX) {}
        // Once it has been full; before, all of it is kept.
        assert!(round < 15 || (256 * KIB..=512 * KIB).contains(&kept(&journal)));
    }

    // A journal that nobody follows any more fills up again.
    journal.close(reader.id);
    for _ in 0..20 {
        assert!(write(&journal, &mut reference, false, 100_000));
    }
    assert!(kept(&journal) > 800 * KIB);
}

#[test]
fn one_who_comes_late_to_a_full_journal_does_not_erase_it() {
    let journal = Journal::new(1000 * KIB);
    let mut reference = Reference::default();
    for _ in 0..50 {
        write(&journal, &mut reference, false, 100_000);
    }
    let mut reader = Reader::open(&journal, &reference, reference.bytes.len() as u64);

    for _ in 0..5 {
        write(&journal, &mut reference, false, 100_000);
        while reader.take(&journal, &reference, usize::MAX) {}
    }

    assert!(kept(&journal) > 700 * KIB);
}

#[test]
fn a_frame_of_which_a_part_is_taken_has_a_rest() {
    let journal = Journal::new(1000 * KIB);
    let mut reference = Reference::default();
    let mut reader = Reader::open(&journal, &reference, 0);
    write(&journal, &mut reference, false, 10);
    write(&journal, &mut reference, true, 10);
    assert_eq!(journal.rest_of_frame(reader.id).unwrap(), b"");

    reader.take(&journal, &reference, 26 + 3);

    let mut frame = Vec::new();
    let payload: Vec<u8> = (10..20).map(byte_at).collect();
    push_frame(&mut frame, Kind::Stderr, 0, &payload);
    assert_eq!(journal.rest_of_frame(reader.id).unwrap(), &frame[3..]);
}

#[test]
fn a_position_past_the_end_is_refused() {
    let journal = Journal::new(1000 * KIB);
    write(&journal, &mut Reference::default(), false, 10);

    assert!(matches!(journal.open(Some(11)), Err(Error::Invalid(_))));
    assert_eq!(journal.open(Some(10)).unwrap().place.position(), 10);
    assert_eq!(journal.open(None).unwrap().place.position(), 10);
}
