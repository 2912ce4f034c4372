//! What a journal must make of its files, said once more, slowly and without regard to how it is done.

use std::{fs, path::Path};

use zeugma_journal::{Error, Journal, Payload, Position, Record};

/// Bytes of a segment before its first block.
pub const SEGMENT_HEAD: usize = 40;

/// Bytes of a block before what its checksum covers.
const BLOCK_HEAD: usize = 8;

/// Bytes of a block that its checksum covers before the first record.
const BLOCK_INNER_HEAD: usize = 20;

/// A record as it can be compared.
pub type Kept = (Position, Vec<u8>);

/// What opening a folder must answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// It opens, with these records.
    Well { records: Vec<Kept>, next: Position, torn_bytes: u64 },
    /// The file of this number is damaged there.
    Damaged { file: usize, at: u64 },
    /// Another program wrote here.
    OtherFormat,
}

/// What one file is.
enum Segment {
    /// A crash left it without a header.
    Begun,
    Whole {
        follows: Position,
        records: Vec<Kept>,
        next: Position,
        good_bytes: u64,
    },
    Damaged(u64),
    OtherFormat,
}

/// What a folder of these files, with the positions they are named after, must be opened as.
pub fn open(files: &[(Position, Vec<u8>)]) -> Opened {
    let mut all = Vec::new();
    // Where the file before ends: its number, its position after the last record, its good bytes.
    let mut end: Option<(usize, Position, u64)> = None;
    let mut torn_bytes = 0;
    for (file, (named, bytes)) in files.iter().enumerate() {
        let newest = file + 1 == files.len();
        let segment = read(*named, bytes);
        let follows = match &segment {
            Segment::OtherFormat => return Opened::OtherFormat,
            Segment::Damaged(at) => return Opened::Damaged { file, at: *at },
            Segment::Begun if !newest => return Opened::Damaged { file, at: 0 },
            // It could not be begun, and records went on before it.
            Segment::Begun => end.map_or(*named, |(_, next, _)| (*named).max(next)),
            Segment::Whole { follows, .. } => *follows,
        };
        if let Some((before, next, good_bytes)) = end
            && next != follows
        {
            return Opened::Damaged { file: before, at: good_bytes };
        }
        match segment {
            Segment::Whole { records, next, good_bytes, .. } => {
                all.extend(records);
                torn_bytes = if newest { bytes.len() as u64 - good_bytes } else { 0 };
                end = Some((file, next, good_bytes));
            }
            _ => end = Some((file, end.map_or(*named, |(_, next, _)| next), 0)),
        }
    }
    Opened::Well { records: all, next: end.map_or(1, |(_, next, _)| next), torn_bytes }
}

fn read(named: Position, bytes: &[u8]) -> Segment {
    let check_at = SEGMENT_HEAD - 4;
    if bytes.len() < SEGMENT_HEAD {
        return Segment::Begun;
    }
    let checked = number(bytes, check_at, 4) == u64::from(crc32c(&bytes[..check_at]));
    match checked && bytes.starts_with(b"ZEUGMAJ\n") {
        false if bytes.len() == SEGMENT_HEAD => return Segment::Begun,
        false => return Segment::Damaged(0),
        true if number(bytes, 8, 4) != 3 => return Segment::OtherFormat,
        true if number(bytes, 12, 8) != named => return Segment::Damaged(0),
        true => {}
    }
    let (follows, mark) = (number(bytes, 20, 8), number(bytes, 28, 8));
    if follows > named || !(1..=1 << 62).contains(&named) {
        return Segment::Damaged(0);
    }
    let (mut at, mut next, mut records) = (SEGMENT_HEAD, named, Vec::new());
    while let Some(block) = block(bytes, at).filter(|block| block.mark == mark) {
        if block.first != next || block.count == 0 {
            return Segment::Damaged(at as u64);
        }
        records.extend(split(block.first, block.records));
        next += block.count;
        at = block.end;
    }
    let later = |position: Position| position > next && position - next < u64::from(u32::MAX);
    let synced = |block: Block<'_>| block.mark == mark && later(block.first);
    if (at + 1..bytes.len()).any(|at| block(bytes, at).is_some_and(synced)) {
        return Segment::Damaged(at as u64);
    }
    Segment::Whole { follows, records, next, good_bytes: at as u64 }
}

/// The records of one sync.
struct Block<'a> {
    mark: u64,
    first: Position,
    count: u64,
    records: &'a [u8],
    end: usize,
}

/// The block that begins there.
fn block(bytes: &[u8], at: usize) -> Option<Block<'_>> {
    let begin = at + BLOCK_HEAD;
    let len = number(bytes.get(..begin)?, at, 4) as usize;
    let inner = bytes.get(begin..begin + len).filter(|_| len >= BLOCK_INNER_HEAD)?;
    let (mark, first, count) = (number(inner, 0, 8), number(inner, 8, 8), number(inner, 16, 4));
    let records = &inner[BLOCK_INNER_HEAD..];
    let fits = u64::from(crc32c(inner)) == number(bytes, at + 4, 4);
    fits.then_some(Block { mark, first, count, records, end: begin + len })
}

/// The records of a block, up to the first that is none.
fn split(first: Position, mut rest: &[u8]) -> Vec<Kept> {
    let mut records = Vec::new();
    while rest.len() >= 4 {
        let len = number(rest, 0, 4) as usize;
        let Some(record) = rest.get(4..4 + len).and_then(Record::decode) else { break };
        records.push((first + records.len() as u64, flat(&record)));
        rest = &rest[4 + len..];
    }
    records
}

/// A record as bytes that differ where it differs.
pub fn flat(record: &Record<'_>) -> Vec<u8> {
    let Record { tenant, topic, received_at_us, payload } = record;
    let (kept, more) = match payload {
        Payload::Whole(kept) => (*kept, String::new()),
        Payload::Cut { kept, bytes, sha256 } => (*kept, format!("{bytes} {sha256:?}")),
        Payload::Again { note, bytes } => (*bytes, format!("{note:?}")),
    };
    [format!("{tenant:?} {topic:?} {received_at_us} {more} ").as_bytes(), kept].concat()
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// CRC-32C bit by bit: reflected, polynomial 0x1EDC6F41.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// The files of a folder, with the positions they are named after.
pub fn files(folder: &Path) -> Vec<(Position, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".journal")) {
            files.push((name.parse().expect("a position"), fs::read(&path).expect("a file")));
        }
    }
    files.sort();
    files
}

/// Opens a folder as the journal does, and compares with what must come of it; the journal, if it opens.
pub fn open_and_compare(folder: &Path, segment_bytes_max: u64) -> Option<Journal> {
    let files = files(folder);
    let wanted = open(&files);
    let (found, journal) = match Journal::open_with(folder, segment_bytes_max) {
        Ok((journal, recovery)) => {
            let records = records(&journal);
            let found = Opened::Well { records, next: journal.next(), torn_bytes: recovery.torn_bytes };
            (found, Some(journal))
        }
        Err(Error::Damaged { path, at, .. }) => {
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            let file = files.iter().position(|(named, _)| Ok(*named) == name.parse());
            (Opened::Damaged { file: file.expect("one of them"), at }, None)
        }
        Err(Error::Format { .. }) => (Opened::OtherFormat, None),
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    };
    assert_eq!(found, wanted);
    journal
}

/// All records of a journal.
pub fn records(journal: &Journal) -> Vec<Kept> {
    let blocks = journal.replay(0).map(|block| block.expect("it was read at opening"));
    blocks
        .flat_map(|block| block.records().map(|(at, record)| (at, flat(&record))).collect::<Vec<_>>())
        .collect()
}
