//! A segment: a file of blocks, named after the position of its first record.
//!
//! ```text
//! "ZEUGMAJ\n" | format u32 | next position u64 | crc32c u32 of what stands before | blocks …
//! ```

use std::path::Path;

use crate::{
    Disk, Error, Position, Synced,
    block::{self, Parsed},
};

const MAGIC: &[u8; 8] = b"ZEUGMAJ\n";
/// 2 knows payloads that come again; 1 is read as it was.
pub(crate) const FORMAT: u32 = 2;
/// Bytes before the first block.
pub(crate) const HEAD: usize = 8 + 4 + 8 + 4;
const EXTENSION: &str = "journal";

/// What a segment holds.
pub(crate) struct Contents {
    /// Position of its first record, or of the next where it has none.
    pub first: Position,
    /// Its blocks.
    pub blocks: Vec<Synced>,
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

    /// The position after its last record.
    pub fn next(&self) -> Position {
        self.blocks.last().map_or(self.first, |block| block.last() + 1)
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
pub(crate) fn create(disk: &dyn Disk, first: Position) -> Result<(), Error> {
    let name = name(first);
    let mut head = Vec::with_capacity(HEAD);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&FORMAT.to_le_bytes());
    head.extend_from_slice(&first.to_le_bytes());
    head.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
    // A crash may have left a file of this name without a whole header; it holds nothing.
    disk.create(&name).map_err(Error::disk("create", disk.place(&name)))?;
    disk.append(&name, &head).map_err(Error::disk("write", disk.place(&name)))?;
    disk.sync(&name).and_then(|()| disk.sync_names()).map_err(|_| Error::Poisoned)
}

/// Reads a whole segment; `None` where the file has no whole header, as a crash at its creation leaves it.
pub(crate) fn read(disk: &dyn Disk, first: Position) -> Result<Option<Contents>, Error> {
    let name = name(first);
    let path = &disk.place(&name);
    let bytes = disk.read(&name).map_err(Error::disk("read", path))?;
    if !read_head(path, first, &bytes)? {
        return Ok(None);
    }
    let mut contents = Contents { first, blocks: Vec::new(), good_bytes: HEAD as u64, torn: None };
    let mut next = first;
    let mut rest = &bytes[HEAD..];
    loop {
        match block::parse(rest) {
            Parsed::End => return Ok(Some(contents)),
            Parsed::Block(synced, len) if synced.first == next && !synced.batch.is_empty() => {
                next = synced.last() + 1;
                contents.blocks.push(synced);
                contents.good_bytes += len as u64;
                rest = &rest[len..];
            }
            Parsed::Block(..) => return Err(damaged(path, &contents, "a block has another position")),
            Parsed::Bad(problem) if later_block(&rest[1..], next).is_some() => {
                return Err(damaged(path, &contents, problem));
            }
            Parsed::Bad(problem) => {
                contents.torn = Some(problem);
                return Ok(Some(contents));
            }
        }
    }
}

/// Whether a segment has its header, which must say the position that its name says. It may lack it where
/// nothing stands behind it.
pub(crate) fn read_head(path: &Path, first: Position, bytes: &[u8]) -> Result<bool, Error> {
    let damaged = |problem| Err(Error::Damaged { path: path.to_owned(), at: 0, problem });
    let Some(head) = bytes.get(..HEAD) else { return Ok(false) };
    let whole = &head[..8] == MAGIC && crc32c::crc32c(&head[..20]).to_le_bytes() == head[20..];
    if !whole {
        return if bytes.len() == HEAD { Ok(false) } else { damaged("its header is not whole") };
    }
    let found = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if found > FORMAT {
        return Err(Error::Format { path: path.to_owned(), found, known: FORMAT });
    }
    if head[12..20] == first.to_le_bytes() { Ok(true) } else { damaged("its header and its name differ") }
}

/// Where in `bytes` a block of a later position begins, if one does: then what stands before it was synced.
pub(crate) fn later_block(bytes: &[u8], next: Position) -> Option<usize> {
    (0..bytes.len()).find(|at| {
        // Most places fail on the position, before any checksum is computed.
        let position = bytes[*at..].get(block::HEAD..block::HEAD + 8).and_then(|bytes| bytes.first_chunk());
        let later = position.is_some_and(|position| {
            let position = Position::from_le_bytes(*position);
            position > next && position - next < u64::from(u32::MAX)
        });
        later && matches!(block::parse(&bytes[*at..]), Parsed::Block(..))
    })
}

fn damaged(path: &Path, contents: &Contents, problem: &'static str) -> Error {
    Error::Damaged { path: path.to_owned(), at: contents.good_bytes, problem }
}
