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
    disk::names,
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
    /// The position after the last record before it; a lower one than its first where records were given up.
    pub follows: Position,
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
    let firsts = segment::firsts(names(folder).map_err(Error::disk("list", folder))?);
    let mut found: Vec<Segment> = Vec::with_capacity(firsts.len());
    for first in firsts {
        let path = folder.join(segment::name(first));
        let bytes = match std::fs::read(&path) {
            // The running program has let it go.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            read => read.map_err(Error::disk("read", &path))?,
        };
        let (segment, go_on) = read(path, first, &bytes, &mut each);
        if let Some(before) = found.last_mut().filter(|before| !segment.is_left_over(before.next)) {
            before.end_before(segment.follows);
        }
        found.push(segment);
        if !go_on {
            break;
        }
    }
    Ok(found)
}

/// Reads one segment's bytes; also answers whether `each` wants more.
pub(crate) fn read(
    path: PathBuf,
    first: Position,
    bytes: &[u8],
    each: &mut impl FnMut(&Synced) -> bool,
) -> (Segment, bool) {
    let mut reading = Reading::begin(path, first, bytes);
    let go_on = reading.blocks(bytes, each);
    (reading.segment, go_on)
}

impl Segment {
    /// Whether it is the beginning of one that could not be begun, records having gone on before it.
    pub(crate) fn is_left_over(&self, next: Position) -> bool {
        self.format.is_none() && self.bytes <= segment::HEAD as u64 && self.first <= next
    }

    /// Holds its end against where the next segment goes on: elsewhere, records are missing.
    fn end_before(&mut self, follows: Position) {
        if follows == self.next {
            return;
        }
        let (at, lost) = (self.bytes as usize, follows.saturating_sub(self.next));
        if self.faults.last().is_none_or(|fault| fault.damage) {
            self.fault(at, 0, "records are missing after it");
        }
        let fault = self.faults.last_mut().expect("one was pushed if there was none");
        (fault.damage, fault.records_lost) = (true, lost);
    }

    fn fault(&mut self, at: usize, bytes: usize, problem: &'static str) -> &mut Fault {
        let (at, bytes) = (at as u64, bytes as u64);
        self.faults.push(Fault { at, bytes, problem, damage: false, records_lost: 0 });
        self.faults.last_mut().expect("one was just pushed")
    }
}

/// A segment while it is read.
struct Reading {
    segment: Segment,
    /// None where the header cannot be read: then blocks of any segment are believed.
    mark: Option<u64>,
    at: usize,
}

impl Reading {
    /// Reads the header.
    fn begin(path: PathBuf, first: Position, bytes: &[u8]) -> Reading {
        let header = segment::read_head(&path, first, bytes);
        let (len, faults) = (bytes.len(), Vec::new());
        let mut segment = Segment {
            path,
            bytes: len as u64,
            format: None,
            first,
            follows: first,
            next: first,
            records: 0,
            faults,
        };
        let (mut mark, mut at) = (None, segment::HEAD.min(len));
        match header {
            Ok(Some(head)) => {
                segment.format = Some(segment::FORMAT);
                segment.follows = head.follows;
                mark = Some(head.mark);
            }
            Ok(None) => segment.fault(0, len, "its header is not whole").damage = false,
            Err(Error::Format { found, .. }) => {
                segment.format = Some(found);
                segment.fault(at, len - at, "its format is not this program's").damage = true;
                at = len;
            }
            // Its name says as well which position it began with.
            Err(Error::Damaged { problem, .. }) => segment.fault(0, at, problem).damage = true,
            Err(_) => {}
        }
        Reading { segment, mark, at }
    }

    /// Reads the blocks; whether to go on with the next file.
    fn blocks(&mut self, bytes: &[u8], each: &mut impl FnMut(&Synced) -> bool) -> bool {
        while let Some(rest) = bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            match block::parse(rest, self.mark) {
                Parsed::Block(block, len) if block.first == self.segment.next && !block.batch.is_empty() => {
                    self.segment.records += block.batch.len() as u64;
                    self.segment.next = block.last() + 1;
                    self.at += len;
                    if !each(&block) {
                        return false;
                    }
                }
                Parsed::Bad(problem) => self.pass_over(bytes, problem),
                Parsed::Block(..) | Parsed::End => {
                    self.pass_over(bytes, POSITION);
                }
            }
        }
        true
    }

    /// Passes over what is no block, to the next block there is. Without one this is an end that was
    /// never synced, as far as the file itself tells.
    fn pass_over(&mut self, bytes: &[u8], problem: &'static str) {
        let (at, next) = (self.at, self.segment.next);
        let Some(skipped) = block::find_later(&bytes[at + 1..], self.mark, next) else {
            self.segment.fault(at, bytes.len() - at, problem).damage = problem == POSITION;
            self.at = bytes.len();
            return;
        };
        self.at = at + 1 + skipped;
        if let Parsed::Block(synced, _) = block::parse(&bytes[self.at..], self.mark) {
            self.segment.next = synced.first;
        }
        let records_lost = self.segment.next - next;
        let fault = self.segment.fault(at, 1 + skipped, problem);
        (fault.damage, fault.records_lost) = (true, records_lost);
    }
}

/// A whole block that does not follow the one before it.
const POSITION: &str = "a block has another position";
