//! One block: the records of one sync, under one checksum.
//!
//! ```text
//! length u32 | crc32c u32 | mark u64 | first position u64 | count u32 | records: length u32, bytes …
//! ```
//! All numbers little-endian; the length counts what follows the checksum, and the checksum covers it.
//! The mark is that of its segment, which nobody outside can know: a payload that looks like a block has
//! another, and so has what an earlier file left on the same disk.

use crate::{Payload, Position, Record};

/// Bytes before what the checksum covers.
pub(crate) const HEAD: usize = 8;

/// Bytes that the checksum covers before the first record.
const INNER_HEAD: usize = 8 + 8 + 4;

/// Largest block that is believed: a group of the largest batches stays below it (see [`crate::group`]).
pub(crate) const BLOCK_BYTES_MAX: usize = 256 << 20;

/// Records that are not written yet, in the order in which they came.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u32,
}

impl Batch {
    /// Appends a record.
    pub fn push(&mut self, record: &Record<'_>) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        record.encode(&mut self.bytes);
        // A record is a payload of at most 256 MiB, as MQTT has it, so its length fits.
        let len = (self.bytes.len() - at - 4) as u32;
        self.bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
        self.count += 1;
    }

    /// How many records it has.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes its records take.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends another batch's records.
    pub fn append(&mut self, other: &Batch) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
    }

    /// The block of these records, of which the first has this position, in a segment with this mark.
    pub(crate) fn block(&self, first: Position, mark: u64) -> Vec<u8> {
        let mut block = Vec::with_capacity(HEAD + INNER_HEAD + self.bytes.len());
        block.extend_from_slice(&((INNER_HEAD + self.bytes.len()) as u32).to_le_bytes());
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&mark.to_le_bytes());
        block.extend_from_slice(&first.to_le_bytes());
        block.extend_from_slice(&self.count.to_le_bytes());
        block.extend_from_slice(&self.bytes);
        let checksum = crc32c::crc32c(&block[HEAD..]);
        block[4..HEAD].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    /// When the newest record came; one that comes again came long ago.
    pub(crate) fn newest_arrival_us(&self) -> Option<i64> {
        let new = self.records().filter(|record| !matches!(record.payload, Payload::Again { .. }));
        new.map(|record| record.received_at_us).max()
    }

    /// Moves the arrival of every record, but of those that come again.
    pub(crate) fn move_arrivals(&mut self, by_us: i64) {
        let mut moved = Batch { bytes: Vec::with_capacity(self.bytes.len()), count: 0 };
        for record in self.records() {
            let by_us = if matches!(record.payload, Payload::Again { .. }) { 0 } else { by_us };
            moved.push(&Record { received_at_us: record.received_at_us.saturating_add(by_us), ..record });
        }
        *self = moved;
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (len, after) = rest.split_first_chunk::<4>()?;
            let (record, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            rest = after;
            // Whoever changed a record changed the checksum too, so this is one of ours.
            Record::decode(record)
        })
    }
}

/// Records that are on disk, with the position of the first.
#[derive(Debug, Clone)]
pub struct Synced {
    /// Position of the first record; the others follow without a gap.
    pub first: Position,
    /// The records.
    pub batch: Batch,
}

impl Synced {
    /// The records with their positions.
    pub fn records(&self) -> impl Iterator<Item = (Position, Record<'_>)> {
        (self.first..).zip(self.batch.records())
    }

    /// The position of the last record.
    pub fn last(&self) -> Position {
        self.first + u64::from(self.batch.count) - 1
    }
}

/// What lies at the beginning of some bytes.
pub(crate) enum Parsed {
    /// A whole block, and how many bytes it takes.
    Block(Synced, usize),
    /// Nothing any more.
    End,
    /// Something that is no block.
    Bad(&'static str),
}

/// Reads the block at the beginning of `bytes`, of a segment with this mark; of any where it is not known.
pub(crate) fn parse(bytes: &[u8], mark: Option<u64>) -> Parsed {
    if bytes.is_empty() {
        return Parsed::End;
    }
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Parsed::Bad("a block is cut off");
    };
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let checksum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if !(INNER_HEAD..=BLOCK_BYTES_MAX).contains(&len) {
        return Parsed::Bad("a block has an impossible length");
    }
    let Some(inner) = rest.get(..len) else { return Parsed::Bad("a block is cut off") };
    if crc32c::crc32c(inner) != checksum {
        return Parsed::Bad("a block's checksum does not fit");
    }
    let Some((found, inner)) = inner.split_first_chunk::<8>() else {
        return Parsed::Bad("a block is cut off");
    };
    if mark.is_some_and(|mark| mark.to_le_bytes() != *found) {
        return Parsed::Bad("a block belongs to another segment");
    }
    let Some((first, inner)) = inner.split_first_chunk::<8>() else {
        return Parsed::Bad("a block is cut off");
    };
    let Some((count, records)) = inner.split_first_chunk::<4>() else {
        return Parsed::Bad("a block is cut off");
    };
    let batch = Batch { bytes: records.to_vec(), count: u32::from_le_bytes(*count) };
    Parsed::Block(Synced { first: Position::from_le_bytes(*first), batch }, HEAD + len)
}

/// Where in `bytes` a block of a later position begins, if one does: then what stands before it was synced.
pub(crate) fn find_later(bytes: &[u8], mark: Option<u64>, next: Position) -> Option<usize> {
    let number = |at: usize| bytes.get(at..at + 8)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    (0..bytes.len()).find(|at| {
        // Most places fail on mark and position, before any checksum is computed.
        let marked = mark.is_none_or(|mark| number(at + HEAD) == Some(mark));
        let later = number(at + HEAD + 8)
            .is_some_and(|position| position > next && position - next < u64::from(u32::MAX));
        marked && later && matches!(parse(&bytes[*at..], mark), Parsed::Block(..))
    })
}
