//! The journal of one folder: opened, appended to, replayed, truncated.

use std::{path::Path, sync::Arc};

use fastrand::Rng;

use crate::{
    Batch, Disk, Error, Folder, Position, Synced,
    leaving::Leaving,
    segment::{self, Contents, Head},
};

/// A segment is full at this size: small enough to read at a start, large enough that turns are rare.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// The journal of one folder. Only one process has it open.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    /// The first positions of all segments, in order; the last of them is open.
    segments: Vec<Position>,
    /// The open segment's.
    mark: u64,
    open_bytes: u64,
    next: Position,
    segment_bytes_max: u64,
    random: Rng,
    poisoned: bool,
}

/// What was found at opening.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Records there are.
    pub records: u64,
    /// Bytes that were cut off an end that had never been synced.
    pub torn_bytes: u64,
}

impl Journal {
    /// Opens the journal of a folder, which may be new.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process has it, [`Error::Damaged`] where synced bytes changed.
    pub fn open(folder: &Path) -> Result<(Journal, Recovery), Error> {
        Self::open_with(folder, SEGMENT_BYTES_MAX)
    }

    /// As [`Journal::open`], with another size at which a segment is full.
    pub fn open_with(folder: &Path, segment_bytes_max: u64) -> Result<(Journal, Recovery), Error> {
        Self::open_on(Arc::new(Folder::open(folder)?), segment_bytes_max, Rng::new())
    }

    /// Opens the journal on any disk; the marks of its segments come from `random`.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        segment_bytes_max: u64,
        mut random: Rng,
    ) -> Result<(Journal, Recovery), Error> {
        let mut segments = segment::list(&*disk)?;
        let (mut recovery, newest) = read_all(&*disk, &segments)?;
        let (open, open_bytes, next) = match newest {
            Some(contents) if segments.last() == Some(&contents.head.first) => {
                recovery.torn_bytes = renew(&*disk, &contents)?;
                (contents.head, contents.good_bytes, contents.next)
            }
            // There is none yet, or the newest was never begun.
            newest => {
                let begun = segments.pop();
                let next = newest.map_or(begun.unwrap_or(1), |contents| contents.next);
                if let Some(begun) = begun.filter(|begun| *begun != next) {
                    segment::delete(&*disk, begun)?;
                }
                segments.push(next);
                let head = Head { first: next, follows: next, mark: random.u64(..) };
                segment::create(&*disk, &head)?;
                (head, segment::HEAD as u64, next)
            }
        };
        let mark = open.mark;
        let journal =
            Journal { disk, segments, mark, open_bytes, next, segment_bytes_max, random, poisoned: false };
        Ok((journal, recovery))
    }

    /// The position that the next record gets.
    pub fn next(&self) -> Position {
        self.next
    }

    /// The lowest position that is still here; everything before it was let go.
    pub fn first(&self) -> Position {
        self.segments.first().copied().unwrap_or(self.next)
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Appends records and syncs them: when it answers, with the first one's position, they are on disk.
    ///
    /// # Errors
    /// [`Error::Disk`] where nothing was written, as on a full disk: it may be tried again.
    /// [`Error::Poisoned`] after a failed sync, for ever: the kernel may have dropped what it could not write.
    pub fn append(&mut self, batch: &Batch) -> Result<Position, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        // The next one of an empty segment would have its name.
        if self.open_bytes >= self.segment_bytes_max.max(segment::HEAD as u64 + 1) {
            self.turn()?;
        }
        let block = batch.block(self.next, self.mark);
        let name = segment::name(self.open_segment());
        if let Err(source) = self.disk.append(&name, &block) {
            // What was written in part must not stand before the next block.
            self.poisoned = self.disk.cut(&name, self.open_bytes).is_err();
            return Err(Error::Disk { what: "append to", path: self.disk.place(&name), source });
        }
        if self.disk.sync(&name).is_err() {
            self.poisoned = true;
            return Err(Error::Poisoned);
        }
        let first = self.next;
        self.open_bytes += block.len() as u64;
        self.next += batch.len() as u64;
        Ok(first)
    }

    /// Reads all records beyond a position, in order.
    pub fn replay(&self, beyond: Position) -> impl Iterator<Item = Result<Synced, Error>> + use<> {
        let nexts = self.segments.iter().skip(1).copied().chain([self.next]);
        let wanted = self.segments.iter().copied().zip(nexts).filter(|(_, next)| *next > beyond + 1);
        let wanted: Vec<Position> = wanted.map(|(first, _)| first).collect();
        let disk = self.disk.clone();
        wanted.into_iter().flat_map(move |first| {
            let blocks: Vec<Result<Synced, Error>> = match segment::read(&*disk, first) {
                Ok(contents) => contents.into_iter().flat_map(|contents| contents.blocks).map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            blocks.into_iter().filter(move |block| block.as_ref().map_or(true, |block| block.last() > beyond))
        })
    }

    /// Deletes the segments that hold nothing beyond a position. Where all is done, a new one is begun.
    pub fn truncate(&mut self, through: Position) -> Result<(), Error> {
        let mut leaving = self.let_go(through)?;
        let deleted = leaving.delete();
        self.segments.splice(..0, leaving.segments);
        deleted
    }

    /// As [`Journal::truncate`], but leaves the deleting to somebody else.
    pub(crate) fn let_go(&mut self, through: Position) -> Result<Leaving, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        if through + 1 >= self.next {
            self.turn_over()?;
        }
        let done = self.segments.iter().skip(1).take_while(|next| **next <= through + 1).count();
        Ok(Leaving { disk: self.disk.clone(), segments: self.segments.drain(..done).collect() })
    }

    /// Begins a segment where the open one has records; answers the last position before it.
    pub(crate) fn turn_over(&mut self) -> Result<Position, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        if self.open_bytes > segment::HEAD as u64 {
            self.turn()?;
        }
        Ok(self.next - 1)
    }

    /// Begins the next segment.
    fn turn(&mut self) -> Result<(), Error> {
        let head = Head { first: self.next, follows: self.next, mark: self.random.u64(..) };
        let created = segment::create(&*self.disk, &head);
        self.poisoned = match &created {
            Ok(()) => false,
            // What is left of it must not stand before the next one: records go on in the old one.
            Err(Error::Disk { .. }) => segment::delete(&*self.disk, head.first).is_err(),
            Err(_) => true,
        };
        created?;
        self.mark = head.mark;
        self.open_bytes = segment::HEAD as u64;
        self.segments.push(self.next);
        Ok(())
    }

    fn open_segment(&self) -> Position {
        self.segments.last().copied().unwrap_or(self.next)
    }
}

/// Reads all segments, which must follow each other; answers the newest that was begun, without its blocks.
fn read_all(disk: &dyn Disk, segments: &[Position]) -> Result<(Recovery, Option<Contents>), Error> {
    let mut recovery = Recovery::default();
    let mut newest: Option<Contents> = None;
    for (index, &first) in segments.iter().enumerate() {
        let contents = segment::read(disk, first)?;
        if contents.is_none() && index + 1 < segments.len() {
            return Err(damaged(disk, first, 0, "its header is not whole"));
        }
        let follows = match (&contents, &newest) {
            (Some(contents), _) => contents.head.follows,
            // Where it could not be begun, records went on in the one before it.
            (None, Some(before)) => first.max(before.next),
            (None, None) => first,
        };
        // A torn end before a segment that goes on where it begins was cut off and never synced.
        if let Some(before) = newest.as_ref().filter(|before| before.next != follows) {
            let problem = before.torn.unwrap_or("records are missing after it");
            return Err(damaged(disk, before.head.first, before.good_bytes, problem));
        }
        if let Some(mut contents) = contents {
            recovery.records += contents.records();
            contents.blocks.clear();
            newest = Some(contents);
        }
    }
    Ok((recovery, newest))
}

fn damaged(disk: &dyn Disk, first: Position, at: u64, problem: &'static str) -> Error {
    Error::Damaged { path: disk.place(&segment::name(first)), at, problem }
}

/// Writes the newest segment anew up to the end of its last good block; answers how many bytes were left
/// out.
///
/// An earlier process may have been told that a sync failed. The system then shows bytes that the disk may
/// not have, and syncing them again says nothing: only bytes written again can be trusted.
fn renew(disk: &dyn Disk, contents: &Contents) -> Result<u64, Error> {
    let (first, good_bytes) = (contents.head.first, contents.good_bytes);
    let name = segment::name(first);
    let mut bytes = disk.read(&name).map_err(Error::disk("read", disk.place(&name)))?;
    let torn_bytes = bytes.len() as u64 - good_bytes;
    bytes.truncate(good_bytes as usize);
    segment::replace(disk, first, &bytes)?;
    Ok(torn_bytes)
}

#[cfg(test)]
mod tests;
