//! The journal of one folder: opened, appended to, replayed, truncated.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use crate::{Batch, Error, Position, Synced, segment};

/// A segment is full at this size: small enough to read at a start, large enough that turns are rare.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// The journal of one folder. Only one process has it open.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// Held as long as the journal is open.
    _lock: File,
    /// Closed segments and the open one, in order.
    segments: Vec<(Position, PathBuf)>,
    open: File,
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
        std::fs::create_dir_all(folder).map_err(Error::disk("create the folder", folder))?;
        let lock = lock(folder)?;
        let mut segments = segment::list(folder)?;
        let mut recovery = Recovery::default();
        let mut last = None;
        for index in 0..segments.len() {
            let newest = index + 1 == segments.len();
            let path = &segments[index].1;
            let Some(contents) = segment::read(path)? else {
                if newest {
                    continue;
                }
                return Err(Error::Damaged { path: path.clone(), at: 0, problem: "its header is not whole" });
            };
            if let Some(problem) = contents.torn.filter(|_| !newest) {
                return Err(Error::Damaged { path: path.clone(), at: contents.good_bytes, problem });
            }
            recovery.records += contents.blocks.iter().map(|block| block.batch.len() as u64).sum::<u64>();
            let next = contents.blocks.last().map_or(contents.first, |block| block.last() + 1);
            last = Some((path.clone(), contents.good_bytes, next));
        }
        let (open, open_bytes, next) = match last {
            Some((path, good_bytes, next)) if Some(&path) == segments.last().map(|(_, path)| path) => {
                let (file, torn_bytes) = reopen(&path, good_bytes)?;
                recovery.torn_bytes = torn_bytes;
                (file, good_bytes, next)
            }
            // Nothing yet, or a newest segment that a crash left without a header.
            last => {
                let next =
                    last.map_or_else(|| segments.last().map_or(1, |(first, _)| *first), |(_, _, next)| next);
                segments.retain(|(first, _)| *first != next);
                segments.push((next, segment::path(folder, next)));
                (segment::create(folder, next)?, segment::HEAD as u64, next)
            }
        };
        let folder = folder.to_owned();
        let journal = Journal {
            folder,
            _lock: lock,
            segments,
            open,
            open_bytes,
            next,
            segment_bytes_max,
            poisoned: false,
        };
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
        let path = self.open_path();
        if let Err(source) = self.open.write_all(&block) {
            // What was written in part must not stand before the next block.
            self.poisoned = self.open.set_len(self.open_bytes).is_err();
            return Err(Error::Disk { what: "append to", path, source });
        }
        if self.open.sync_data().is_err() {
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
        let nexts = self.segments.iter().skip(1).map(|(first, _)| *first).chain([self.next]);
        let wanted = self.segments.iter().zip(nexts).filter(|(_, next)| *next > beyond + 1);
        let paths: Vec<PathBuf> = wanted.map(|((_, path), _)| path.clone()).collect();
        paths.into_iter().flat_map(move |path| {
            let blocks: Vec<Result<Synced, Error>> = match segment::read(&path) {
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
        while let [(_, path), (next, _), ..] = self.segments.as_slice()
            && *next <= through + 1
        {
            std::fs::remove_file(path).map_err(Error::disk("delete", path))?;
            self.segments.remove(0);
        }
        segment::sync_folder(&self.folder)
    }

    /// Begins the next segment.
    fn turn(&mut self) -> Result<(), Error> {
        self.open = segment::create(&self.folder, self.next)?;
        self.open_bytes = segment::HEAD as u64;
        self.segments.push((self.next, segment::path(&self.folder, self.next)));
        Ok(())
    }

    fn open_path(&self) -> PathBuf {
        self.segments.last().map(|(_, path)| path.clone()).unwrap_or_else(|| self.folder.clone())
    }
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::disk("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Locked { path: folder.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(Error::Disk { what: "lock", path, source }),
    }
}

/// Opens a segment for appending after its last good block; answers how many bytes were cut off.
fn reopen(path: &Path, good_bytes: u64) -> Result<(File, u64), Error> {
    let file = OpenOptions::new().append(true).open(path).map_err(Error::disk("open", path))?;
    let bytes = file.metadata().map_err(Error::disk("read", path))?.len();
    if bytes > good_bytes {
        file.set_len(good_bytes).and_then(|()| file.sync_all()).map_err(Error::disk("cut", path))?;
    }
    Ok((file, bytes - good_bytes))
}

#[cfg(test)]
mod tests;
