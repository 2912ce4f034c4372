//! A segment: a file of blocks, named after the position of its first record.
//!
//! ```text
//! "ZEUGMAJ\n" | format u32 | first u64 | follows u64 | mark u64 | crc32c u32 of what stands before | blocks …
//! ```
//! `first` is the position of its first record, or of the next while it has none. It `follows` the
//! segment that ends before that position: the same one, but where records were lost and given up
//! (see [`crate::mend`]). The mark is random, and stands in every block.

use std::{io::ErrorKind, path::Path};

use crate::{
    Disk, Error, Position, Synced,
    block::{self, Parsed},
};

const MAGIC: &[u8; 8] = b"ZEUGMAJ\n";
pub(crate) const FORMAT: u32 = 3;
/// Bytes of the header that its checksum covers.
const CHECKED: usize = 8 + 4 + 8 + 8 + 8;
/// Bytes before the first block.
pub(crate) const HEAD: usize = CHECKED + 4;
const EXTENSION: &str = "journal";
/// Positions beyond it are nonsense, at any rate for any time; below it nothing that is added overflows.
const POSITION_MAX: Position = 1 << 62;

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Position of its first record, or of the next where it has none.
    pub first: Position,
    /// The position after the last record before it.
    pub follows: Position,
    /// What tells its blocks from other bytes.
    pub mark: u64,
}

impl Head {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&FORMAT.to_le_bytes());
        for number in [self.first, self.follows, self.mark] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
        head
    }
}

/// What a segment holds.
pub(crate) struct Contents {
    pub head: Head,
    /// Its blocks.
    pub blocks: Vec<Synced>,
    /// The position after its last record.
    pub next: Position,
    /// Where the last good block ends.
    pub good_bytes: u64,
    /// What follows there, if anything does.
    pub torn: Option<&'static str>,
}

impl Contents {
    /// How many records it holds.
    pub fn records(&self) -> u64 {
        self.blocks.iter().map(|block| block.batch.len() as u64).sum()
    }
}

/// The name of a segment that begins with this position.
pub(crate) fn name(first: Position) -> String {
    format!("{first:020}.{EXTENSION}")
}

/// The first positions of the segments there are, in order.
pub(crate) fn list(disk: &dyn Disk) -> Result<Vec<Position>, Error> {
    let names = disk.list().map_err(Error::disk("list", disk.place("")))?;
    Ok(firsts(names))
}

/// The first positions of those names that are segments', in order.
pub(crate) fn firsts(names: impl IntoIterator<Item = String>) -> Vec<Position> {
    let first = |name: String| name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok();
    let mut found: Vec<Position> = names.into_iter().filter_map(first).collect();
    found.sort_unstable();
    found
}

/// Makes an empty segment, durable with its name.
///
/// # Errors
/// [`Error::Disk`] where it could not be written, which may be tried again; [`Error::Poisoned`] where a
/// sync failed.
pub(crate) fn create(disk: &dyn Disk, head: &Head) -> Result<(), Error> {
    let name = name(head.first);
    // A crash may have left a file of this name without a whole header; it holds nothing.
    disk.create(&name).map_err(Error::disk("create", disk.place(&name)))?;
    disk.append(&name, &head.encode()).map_err(Error::disk("write", disk.place(&name)))?;
    disk.sync(&name).and_then(|()| disk.sync_names()).map_err(|_| Error::Poisoned)
}

/// Puts these bytes in place of a segment's, durable; after a crash the file is the old one or the new one.
pub(crate) fn replace(disk: &dyn Disk, first: Position, bytes: &[u8]) -> Result<(), Error> {
    let name = name(first);
    let failed = |what| Error::disk(what, disk.place(&name));
    let new = format!("{name}.new");
    disk.create(&new).and_then(|()| disk.append(&new, bytes)).map_err(failed("write anew"))?;
    disk.sync(&new).map_err(failed("sync"))?;
    disk.rename(&new, &name).and_then(|()| disk.sync_names()).map_err(failed("replace"))
}

/// Makes sure that there is no such segment, durably.
pub(crate) fn delete(disk: &dyn Disk, first: Position) -> Result<(), Error> {
    let name = name(first);
    let deleted = match disk.delete(&name) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        deleted => deleted,
    };
    // In any case: it may be gone since a try whose sync failed.
    deleted.and_then(|()| disk.sync_names()).map_err(Error::disk("delete", disk.place(&name)))
}

/// Reads a whole segment; `None` where the file has no whole header, as a crash at its creation leaves it.
pub(crate) fn read(disk: &dyn Disk, first: Position) -> Result<Option<Contents>, Error> {
    let name = name(first);
    let path = &disk.place(&name);
    let bytes = disk.read(&name).map_err(Error::disk("read", path))?;
    let Some(head) = read_head(path, first, &bytes)? else { return Ok(None) };
    let mark = Some(head.mark);
    let (blocks, good_bytes) = (Vec::new(), HEAD as u64);
    let mut contents = Contents { head, blocks, next: first, good_bytes, torn: None };
    let mut rest = &bytes[HEAD..];
    loop {
        let next = contents.next;
        match block::parse(rest, mark) {
            Parsed::End => return Ok(Some(contents)),
            Parsed::Block(synced, len) if synced.first == next && !synced.batch.is_empty() => {
                contents.next = synced.last() + 1;
                contents.blocks.push(synced);
                contents.good_bytes += len as u64;
                rest = &rest[len..];
            }
            Parsed::Block(..) => return Err(damaged(path, &contents, "a block has another position")),
            Parsed::Bad(problem) if block::find_later(&rest[1..], mark, next).is_some() => {
                return Err(damaged(path, &contents, problem));
            }
            Parsed::Bad(problem) => {
                contents.torn = Some(problem);
                return Ok(Some(contents));
            }
        }
    }
}

/// A segment's header, which must say the position that its name says. It may be missing where nothing
/// stands behind it.
pub(crate) fn read_head(path: &Path, first: Position, bytes: &[u8]) -> Result<Option<Head>, Error> {
    let damaged = |problem| Err(Error::Damaged { path: path.to_owned(), at: 0, problem });
    let Some(head) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
    let number = |at: usize| head[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if &head[..8] != MAGIC || crc32c::crc32c(&head[..CHECKED]).to_le_bytes() != head[CHECKED..] {
        return if bytes.len() == HEAD { Ok(None) } else { damaged("its header is not whole") };
    }
    let found = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if found != FORMAT {
        return Err(Error::Format { path: path.to_owned(), found, known: FORMAT });
    }
    let head = Head { first: number(12), follows: number(20), mark: number(28) };
    if head.first != first || head.follows > first {
        return damaged("its header and its name differ");
    }
    if !(1..=POSITION_MAX).contains(&first) {
        return damaged("its header names an impossible position");
    }
    Ok(Some(head))
}

fn damaged(path: &Path, contents: &Contents, problem: &'static str) -> Error {
    Error::Damaged { path: path.to_owned(), at: contents.good_bytes, problem }
}
