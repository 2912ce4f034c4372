//! The journal of one folder: opened, appended to, replayed, truncated.

use std::{path::Path, sync::Arc};

use crate::{Batch, Disk, Error, Folder, Position, Synced, segment};

/// A segment is full at this size: small enough to read at a start, large enough that turns are rare.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// The journal of one folder. Only one process has it open.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    /// The first positions of all segments, in order; the last of them is open.
    segments: Vec<Position>,
    open_bytes: u64,
    next: Position,
    segment_bytes_max: u64,
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
        Self::open_on(Arc::new(Folder::open(folder)?), segment_bytes_max)
    }

    /// Opens the journal on any disk.
    pub fn open_on(disk: Arc<dyn Disk>, segment_bytes_max: u64) -> Result<(Journal, Recovery), Error> {
        let mut segments = segment::list(&*disk)?;
        let mut recovery = Recovery::default();
        // Where the newest whole segment ends, and what comes next.
        let mut end = None;
        for (index, &first) in segments.iter().enumerate() {
            let following = segments.get(index + 1);
            let Some(contents) = segment::read(&*disk, first)? else {
                if following.is_some() {
                    return Err(damaged(&*disk, first, 0, "its header is not whole"));
                }
                continue;
            };
            // A torn end before a segment that goes on where it begins was cut off and never synced.
            if following.is_some_and(|following| *following != contents.next()) {
                let problem = contents.torn.unwrap_or("records are missing after it");
                return Err(damaged(&*disk, first, contents.good_bytes, problem));
            }
            recovery.records += contents.records();
            end = Some((first, contents.good_bytes, contents.next()));
        }
        let (open_bytes, next) = match end {
            Some((first, good_bytes, next)) if segments.last() == Some(&first) => {
                recovery.torn_bytes = renew(&*disk, first, good_bytes)?;
                (good_bytes, next)
            }
            // Nothing yet, or a newest segment that a crash left without a header.
            end => {
                let next = end.map_or_else(|| segments.last().copied().unwrap_or(1), |(_, _, next)| next);
                segments.retain(|first| *first != next);
                segments.push(next);
                segment::create(&*disk, next)?;
                (segment::HEAD as u64, next)
            }
        };
        let journal = Journal { disk, segments, open_bytes, next, segment_bytes_max, poisoned: false };
        Ok((journal, recovery))
    }

    /// The position that the next record gets.
    pub fn next(&self) -> Position {
        self.next
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
        let block = batch.block(self.next);
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
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        if through + 1 >= self.next && self.open_bytes > segment::HEAD as u64 {
            self.turn()?;
        }
        while let [first, next, ..] = *self.segments
            && next <= through + 1
        {
            let name = segment::name(first);
            self.disk.delete(&name).map_err(Error::disk("delete", self.disk.place(&name)))?;
            self.segments.remove(0);
            // One by one and the oldest first, so that a crash never leaves a gap between segments. An
            // old one that comes back does no harm: its records are known to be committed.
            self.disk.sync_names().map_err(Error::disk("sync", self.disk.place(&name)))?;
        }
        Ok(())
    }

    /// Begins the next segment.
    fn turn(&mut self) -> Result<(), Error> {
        let created = segment::create(&*self.disk, self.next);
        self.poisoned = matches!(created, Err(Error::Poisoned));
        created?;
        self.open_bytes = segment::HEAD as u64;
        self.segments.push(self.next);
        Ok(())
    }

    fn open_segment(&self) -> Position {
        self.segments.last().copied().unwrap_or(self.next)
    }
}

fn damaged(disk: &dyn Disk, first: Position, at: u64, problem: &'static str) -> Error {
    Error::Damaged { path: disk.place(&segment::name(first)), at, problem }
}

/// Writes the newest segment anew up to the end of its last good block; answers how many bytes were left
/// out.
///
/// An earlier process may have been told that a sync failed. The system then shows bytes that the disk may
/// not have, and syncing them again says nothing: only bytes written again can be trusted.
fn renew(disk: &dyn Disk, first: Position, good_bytes: u64) -> Result<u64, Error> {
    let name = segment::name(first);
    let failed = |what| Error::disk(what, disk.place(&name));
    let mut bytes = disk.read(&name).map_err(failed("read"))?;
    let torn_bytes = bytes.len() as u64 - good_bytes;
    bytes.truncate(good_bytes as usize);
    let new = format!("{name}.new");
    disk.create(&new).and_then(|()| disk.append(&new, &bytes)).map_err(failed("write anew"))?;
    disk.sync(&new).map_err(failed("sync"))?;
    disk.rename(&new, &name).and_then(|()| disk.sync_names()).map_err(failed("replace"))?;
    Ok(torn_bytes)
}

#[cfg(test)]
mod tests;
