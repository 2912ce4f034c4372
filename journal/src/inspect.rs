//! What lies in a journal's folder, for people: reads only, takes no lock, and goes on behind damage.
//!
//! Beside a running program it sees what stood there at one moment of each file: a block that is being
//! written looks like a torn end, and a segment that was let go meanwhile is not there.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::{
    Error, Position, Synced,
    block::{self, Parsed},
    segment,
};

/// One segment's file, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The file.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
    /// Its format; none where the header is not whole.
    pub format: Option<u32>,
    /// Position of its first record, or of the next where it has none.
    pub first: Position,
    /// The position after its last record.
    pub next: Position,
    /// Records that can be read.
    pub records: u64,
    /// What cannot be read, in the order of the file.
    pub faults: Vec<Fault>,
}

/// A run of bytes that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it begins.
    pub at: u64,
    /// How long it is; zero where whole positions are missing.
    pub bytes: u64,
    /// What is wrong there.
    pub problem: &'static str,
    /// Whether it was synced once: then a start is refused. If not, a start cuts it off.
    pub damage: bool,
    /// Records that are lost with it, as far as what follows tells.
    pub records_lost: u64,
}

/// Reads all segments of a folder in order and hands each block to `each`, until that says `false`.
///
/// # Errors
/// [`Error::Disk`] where the folder or a file cannot be read. Damage is no error here: it is in the answer.
pub fn inspect(folder: &Path, mut each: impl FnMut(&Synced) -> bool) -> Result<Vec<Segment>, Error> {
    let listed = list(folder)?;
    let mut found: Vec<Segment> = Vec::with_capacity(listed.len());
    for (index, (named, path)) in listed.iter().enumerate() {
        let bytes = match std::fs::read(path) {
            // The running program has let it go.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            read => read.map_err(Error::disk("read", path))?,
        };
        let mut reading = Reading::begin(path, *named, &bytes);
        if let Some(before) = found.last() {
            reading.follow(before.next);
        }
        let following = listed.get(index + 1).map(|(first, _)| *first);
        let go_on = reading.blocks(&bytes, following, &mut each);
        found.push(reading.segment);
        if !go_on {
            break;
        }
    }
    Ok(found)
}

fn list(folder: &Path) -> Result<Vec<(Position, PathBuf)>, Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::disk("list", folder))? {
        let entry = entry.map_err(Error::disk("list", folder))?;
        let first = entry.file_name().to_str().and_then(segment::position);
        found.extend(first.map(|first| (first, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// A segment while it is read.
struct Reading {
    segment: Segment,
    at: usize,
}

impl Reading {
    /// Reads the header. Where it is not whole, the file's name says which position it began with.
    fn begin(path: &Path, named: Position, bytes: &[u8]) -> Reading {
        let segment = Segment {
            path: path.to_owned(),
            bytes: bytes.len() as u64,
            format: None,
            first: named,
            next: named,
            records: 0,
            faults: Vec::new(),
        };
        let mut reading = Reading { segment, at: segment::HEAD.min(bytes.len()) };
        match segment::read_head(path, bytes) {
            Ok(Some(first)) => {
                let format = bytes[8..12].first_chunk().map(|format| u32::from_le_bytes(*format));
                reading.segment.format = format;
                (reading.segment.first, reading.segment.next) = (first, first);
                if first != named {
                    reading.fault(0, 0, "its name says another position than its header");
                }
            }
            Ok(None) => {}
            Err(Error::Format { found, .. }) => {
                reading.segment.format = Some(found);
                reading.at = bytes.len();
                let rest = bytes.len() - segment::HEAD;
                reading.fault(segment::HEAD, rest, "its format is newer than this program");
            }
            Err(_) => {
                reading.fault(0, segment::HEAD, "its header is not whole");
            }
        }
        reading
    }

    /// Compares with the end of the segment before.
    fn follow(&mut self, next: Position) {
        let first = self.segment.first;
        if first != next {
            self.fault(0, 0, "its positions do not follow those of the file before").records_lost =
                first.saturating_sub(next);
        }
    }

    /// Reads the blocks; whether to go on with the next file, which begins with `following`.
    fn blocks(
        &mut self,
        bytes: &[u8],
        following: Option<Position>,
        each: &mut impl FnMut(&Synced) -> bool,
    ) -> bool {
        if self.segment.format.is_none() && self.at == bytes.len() {
            self.fault(0, bytes.len(), "its header is not whole").damage = following.is_some();
        }
        while let Some(rest) = bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            let problem = match block::parse(rest) {
                Parsed::Block(synced, len)
                    if synced.first == self.segment.next && !synced.batch.is_empty() =>
                {
                    self.segment.records += synced.batch.len() as u64;
                    self.segment.next = synced.last() + 1;
                    self.at += len;
                    if !each(&synced) {
                        return false;
                    }
                    continue;
                }
                Parsed::Bad(problem) => problem,
                Parsed::Block(..) | Parsed::End => "a block has another position",
            };
            self.pass_over(bytes, problem, following);
        }
        true
    }

    /// Passes over what is no block, to the next block there is.
    fn pass_over(&mut self, bytes: &[u8], problem: &'static str, following: Option<Position>) {
        let (at, next) = (self.at, self.segment.next);
        let Some(skipped) = segment::later_block(&bytes[at + 1..], next) else {
            // Where the next file goes on without a gap, this was never synced.
            let damage = following.is_some_and(|following| following != next);
            self.fault(at, bytes.len() - at, problem).damage = damage;
            self.at = bytes.len();
            return;
        };
        self.at = at + 1 + skipped;
        if let Parsed::Block(synced, _) = block::parse(&bytes[self.at..]) {
            self.segment.next = synced.first;
        }
        self.fault(at, 1 + skipped, problem).records_lost = self.segment.next - next;
    }

    /// Notes a fault; it counts as damage unless told otherwise.
    fn fault(&mut self, at: usize, bytes: usize, problem: &'static str) -> &mut Fault {
        let (at, bytes) = (at as u64, bytes as u64);
        self.segment.faults.push(Fault { at, bytes, problem, damage: true, records_lost: 0 });
        self.segment.faults.last_mut().expect("one was just pushed")
    }
}
