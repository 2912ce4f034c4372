//! Readings on flash: a queue that outlives a loss of power, and beside it what the device must not forget.
//!
//! The queue is `sequential-storage`'s, whose records are whole or not there, whichever word the power went
//! at. The first quarter, at least two pages, holds the [`Memory`], which is written whenever the queue runs
//! empty: for a device that has its network after each reading. Its pages then wear about as fast as the queue's.

use core::ops::Range;

use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashErrorKind, ReadNorFlash,
};
use sequential_storage::{
    Error,
    cache::{Cache, Uncached, page_states::CalculatedPageStates},
    map::{MapConfig, MapStorage},
    queue::{QueueConfig, QueueStorage},
};

use crate::{
    anchor::{Anchors, Fixed},
    memory::{MEMORY_BYTES, Memory},
    record::{FIELDS_BYTES_MAX, HEAD_BYTES_MAX, Key, Offsets, Record, Stamp},
    ring::Ring,
};

/// Why the flash is of no use now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlashFailed {
    /// It did not do as it was told, or is too small: four pages are the least.
    #[error("the flash does not work")]
    Broken,
    /// What it holds was not written like this.
    #[error("what the flash holds is damaged")]
    Damaged,
}

/// Room for the largest record, in words of the largest size there is.
pub type RecordBytes = [u8; (HEAD_BYTES_MAX + FIELDS_BYTES_MAX).next_multiple_of(32)];

/// An item of the map: its key, its value, and room for the longest word.
const MEMORY_BUF_BYTES: usize = MEMORY_BYTES + 32;

const MEMORY_KEY: u8 = 1;

/// A part of every page.
const BLANK_LOOK_BYTES: usize = 64;

type QueueCache = Cache<CalculatedPageStates, Uncached, Uncached>;
type MemoryMap<'f, F> = MapStorage<u8, &'f mut F, Cache<Uncached, Uncached, Uncached, u8>>;

/// The queue and the memory, in one flash.
pub struct Flash<'r, F: MultiwriteNorFlash> {
    queue: QueueStorage<F, QueueCache>,
    memory: Range<u32>,
    buf: &'r mut RecordBytes,
}

/// What stands in the queue when the device starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// What was noted, brought up to the last record of the queue.
    pub memory: Memory,
    /// How many readings wait.
    pub count: usize,
    /// Whether something was damaged and had to go.
    pub was_damaged: bool,
}

/// What becomes of a record that was looked at, and of those behind it.
enum Next {
    /// It stays, and the next one is looked at.
    Stays,
    /// It goes, and the next one is looked at.
    Goes,
    /// It stays, and no other is looked at.
    End,
}

/// Why loading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// There is no more.
    End,
    /// The ring is full.
    Full,
    /// The next reading has ticks of this earlier start.
    Ask(u32),
    /// The flash failed.
    Failed,
}

/// What loading did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// So many readings came into the ring.
    pub count: usize,
    /// So many went, as their time will never be known.
    pub untimed: u32,
    /// And why it stopped.
    pub stopped: Stopped,
}

impl<'r, F: MultiwriteNorFlash> Flash<'r, F> {
    /// In `flash` from the byte `start` on, which begins a page: one more start of the device, and what it finds.
    ///
    /// What is damaged goes, as a device that stops for it would lose more.
    pub async fn open(flash: F, start: u32, buf: &'r mut RecordBytes) -> Result<(Self, Found), FlashFailed> {
        let mut this = Self::new(flash, start, buf)?;
        let mut found = Found::default();
        match this.recall().await {
            Ok(Some(memory)) => found.memory = memory,
            // Blank is a device's first start.
            Ok(None) => found.was_damaged = !this.has_blank_memory().await?,
            Err(FlashFailed::Damaged) => found.was_damaged = true,
            Err(error) => return Err(error),
        }
        match this.survey(&mut found).await {
            Err(FlashFailed::Damaged) => {
                (found.was_damaged, found.count) = (true, 0);
                this = this.with_no_records().await?;
            }
            surveyed => surveyed?,
        }
        found.memory.boot = found.memory.boot.saturating_add(1);
        if let Err(FlashFailed::Damaged) = this.note(&found.memory).await {
            found.was_damaged = true;
            this.map()?.erase_all().await.map_err(failed)?;
            this.note(&found.memory).await?;
        }
        Ok((this, found))
    }

    fn new(flash: F, start: u32, buf: &'r mut RecordBytes) -> Result<Self, FlashFailed> {
        let page = F::ERASE_SIZE as u32;
        let pages = (flash.capacity() as u32).saturating_sub(start) / page;
        if pages < 4 {
            return Err(FlashFailed::Broken);
        }
        let memory = start..start + (pages / 4).max(2) * page;
        let queue = queue(flash, memory.end..start + pages * page)?;
        Ok(Flash { queue, memory, buf })
    }

    async fn with_no_records(mut self) -> Result<Self, FlashFailed> {
        self.queue.erase_all().await.map_err(failed)?;
        let Flash { queue: erased, memory, buf } = self;
        let pages = erased.flash_range();
        // What it remembers of its pages does not hold any more.
        Ok(Flash { queue: queue(erased.destroy().0, pages)?, memory, buf })
    }

    /// Looks through the queue: how many readings there are, and how far their numbers, times and starts go.
    async fn survey(&mut self, found: &mut Found) -> Result<(), FlashFailed> {
        let Memory { boot: last_boot, seq, last_us, counter, .. } = &mut found.memory;
        let mut untimed: [Option<(u32, i64)>; 2] = [None; 2];
        self.visit(&mut |record| {
            match record {
                Some(Record::Reading { key, stamp, counter: counted, .. }) => {
                    found.count += 1;
                    *counter = counted.max(*counter);
                    let channel = key.channel as usize;
                    seq[channel] = seq[channel].max(key.seq.saturating_add(1));
                    match stamp {
                        Stamp::Time(us) => last_us[channel] = last_us[channel].max(us),
                        Stamp::Ticks { boot, us } => {
                            *last_boot = boot.max(*last_boot);
                            untimed[channel] = Some((boot, us));
                        }
                    }
                }
                Some(Record::Anchor { boot, offset_us }) => {
                    *last_boot = boot.max(*last_boot);
                    for channel in 0..2 {
                        let ticks = untimed[channel].filter(|last| last.0 == boot).map(|last| last.1);
                        let time_us = ticks.map_or(0, |us| us.saturating_add(offset_us[channel]));
                        last_us[channel] = last_us[channel].max(time_us);
                    }
                }
                None => {}
            }
            Next::Stays
        })
        .await
    }

    /// Adds a record as the newest; `false` if there is no room.
    pub async fn push(&mut self, record: &Record<'_>) -> Result<bool, FlashFailed> {
        let len = record.encode(self.buf);
        match self.queue.push(&self.buf[..len], false).await {
            Ok(()) => Ok(true),
            Err(Error::FullStorage) => Ok(false),
            Err(err) => Err(failed(err)),
        }
    }

    /// Drops the oldest record; answers which reading it was, `Some(None)` for a record that is no reading,
    /// and `None` where nothing is left.
    pub async fn drop_oldest(&mut self) -> Result<Option<Option<Key>>, FlashFailed> {
        let oldest = self.queue.pop(self.buf).await.map_err(failed)?;
        Ok(oldest.map(|bytes| match Record::decode(bytes) {
            Some(Record::Reading { key, .. }) => Some(key),
            _ => None,
        }))
    }

    /// Removes the readings from `first` to `last`, which are of one channel.
    pub async fn remove(&mut self, first: Key, last: Key) -> Result<(), FlashFailed> {
        let mut is_oldest = true;
        self.visit(&mut |record| {
            let goes = match record {
                Some(Record::Reading { key, .. }) if key.channel == first.channel => {
                    if key.seq > last.seq {
                        return Next::End;
                    }
                    key.seq >= first.seq
                }
                Some(Record::Reading { .. }) => false,
                // With no reading before it, nobody needs it any more.
                Some(Record::Anchor { .. }) | None => is_oldest,
            };
            is_oldest &= goes;
            if goes { Next::Goes } else { Next::Stays }
        })
        .await
    }

    /// Fills `ring` with the readings from `next_seq` of their channel on, which moves on.
    pub async fn load<const R: usize, const B: usize>(
        &mut self,
        ring: &mut Ring<R, B>,
        next_seq: &mut [u32; 2],
        anchors: &Anchors,
    ) -> Loaded {
        let mut loaded = Loaded { count: 0, untimed: 0, stopped: Stopped::End };
        let visited = self
            .visit(&mut |record| {
                let Some(Record::Reading { key, stamp, fields, .. }) = record else { return Next::Stays };
                let next = &mut next_seq[key.channel as usize];
                if key.seq < *next {
                    return Next::Stays;
                }
                if !ring.has_room(1, fields.len()) {
                    loaded.stopped = Stopped::Full;
                    return Next::End;
                }
                let goes = match anchors.fix(key.channel, stamp) {
                    Fixed::Stamp(stamp) => {
                        ring.push(key, stamp, fields);
                        loaded.count += 1;
                        Next::Stays
                    }
                    Fixed::Never => {
                        loaded.untimed += 1;
                        Next::Goes
                    }
                    Fixed::Ask(boot) => {
                        loaded.stopped = Stopped::Ask(boot);
                        return Next::End;
                    }
                };
                *next = key.seq.saturating_add(1);
                goes
            })
            .await;
        if visited.is_err() {
            loaded.stopped = Stopped::Failed;
        }
        loaded
    }

    /// The offsets of an earlier start, if it ever knew the time.
    pub async fn offsets(&mut self, boot: u32) -> Result<Option<Offsets>, FlashFailed> {
        let mut offsets = None;
        self.visit(&mut |record| match record {
            Some(Record::Anchor { boot: of, offset_us }) if of == boot => {
                offsets = Some(offset_us);
                Next::End
            }
            _ => Next::Stays,
        })
        .await?;
        Ok(offsets)
    }

    /// Looks at each record, the oldest first; `None` stands for one that is none of ours.
    async fn visit(&mut self, look: &mut dyn FnMut(Option<Record<'_>>) -> Next) -> Result<(), FlashFailed> {
        let mut entries = self.queue.iter().await.map_err(failed)?;
        while let Some(entry) = entries.next(&mut self.buf[..]).await.map_err(failed)? {
            match look(Record::decode(&entry)) {
                Next::Stays => {}
                Next::Goes => _ = entry.pop().await.map_err(failed)?,
                Next::End => break,
            }
        }
        Ok(())
    }

    /// Notes `memory`.
    pub async fn note(&mut self, memory: &Memory) -> Result<(), FlashFailed> {
        let bytes = memory.to_bytes();
        let mut buf = [0; MEMORY_BUF_BYTES];
        self.map()?.store_item(&mut buf, &MEMORY_KEY, &bytes).await.map_err(failed)
    }

    async fn recall(&mut self) -> Result<Option<Memory>, FlashFailed> {
        let mut buf = [0; MEMORY_BUF_BYTES];
        let bytes: Option<[u8; MEMORY_BYTES]> =
            self.map()?.fetch_item(&mut buf, &MEMORY_KEY).await.map_err(failed)?;
        Ok(bytes.and_then(|bytes| Memory::from_bytes(&bytes)))
    }

    async fn has_blank_memory(&mut self) -> Result<bool, FlashFailed> {
        let mut bytes = [0; BLANK_LOOK_BYTES];
        for at in self.memory.clone().step_by(BLANK_LOOK_BYTES) {
            self.queue.flash().read(at, &mut bytes).await.map_err(|_| FlashFailed::Broken)?;
            if bytes.iter().any(|byte| *byte != 0xff) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn map(&mut self) -> Result<MemoryMap<'_, F>, FlashFailed> {
        let config = MapConfig::try_new(self.memory.clone()).map_err(|_| FlashFailed::Broken)?;
        Ok(MapStorage::new(self.queue.flash(), config, Cache::new_uncached()))
    }
}

fn queue<F: NorFlash>(flash: F, pages: Range<u32>) -> Result<QueueStorage<F, QueueCache>, FlashFailed> {
    let count = (pages.end - pages.start) as usize / F::ERASE_SIZE;
    let config = QueueConfig::try_new(pages).map_err(|_| FlashFailed::Broken)?;
    let cache = Cache::new(CalculatedPageStates::new(count), Uncached, Uncached);
    Ok(QueueStorage::new(flash, config, cache))
}

fn failed<E>(error: Error<E>) -> FlashFailed {
    match error {
        Error::Storage { .. } => FlashFailed::Broken,
        _ => FlashFailed::Damaged,
    }
}

/// The flash of a device that has none.
pub enum NoFlash {}

impl ErrorType for NoFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for NoFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, _offset: u32, _bytes: &mut [u8]) -> Result<(), Self::Error> {
        match *self {}
    }

    fn capacity(&self) -> usize {
        match *self {}
    }
}

impl NorFlash for NoFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    async fn erase(&mut self, _from: u32, _to: u32) -> Result<(), Self::Error> {
        match *self {}
    }

    async fn write(&mut self, _offset: u32, _bytes: &[u8]) -> Result<(), Self::Error> {
        match *self {}
    }
}

impl MultiwriteNorFlash for NoFlash {}
