//! Readings not yet acknowledged: numbered, their time fixed, kept in order, the oldest dropped first when full.
//!
//! ```text
//!   push ──▶ flash, if there is one ──load──▶ ring in RAM ──gather──▶ batch ──delivered──▶ gone from both
//! ```
//! With flash, a reading is on it when [`Outbox::push`] returns, and the ring holds the oldest ones, which are
//! sent next. Without, the ring is all there is.

use embassy_time::Instant;
use embedded_storage_async::nor_flash::MultiwriteNorFlash;

use crate::{
    anchor::Anchors,
    batch::Batch,
    clock::{Moment, credible},
    flash::{Flash, FlashFailed, NoFlash, RecordBytes, Stopped},
    memory::Memory,
    record::{Key, Record, Stamp},
    ring::{Ring, Ticket},
    schedule::Channel,
};

/// The RAM of an outbox: a ring of `RECORDS` readings in `BYTES` bytes, and a record on its way to or from flash.
pub struct Room<const RECORDS: usize, const BYTES: usize> {
    ring: Ring<RECORDS, BYTES>,
    record: RecordBytes,
}

impl<const RECORDS: usize, const BYTES: usize> Room<RECORDS, BYTES> {
    /// Empty.
    pub const fn new() -> Self {
        Room { ring: Ring::new(), record: [0; size_of::<RecordBytes>()] }
    }
}

impl<const RECORDS: usize, const BYTES: usize> Default for Room<RECORDS, BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

/// An outbox in a [`Room`], before a flash `F`.
pub struct Outbox<'r, F: MultiwriteNorFlash, const RECORDS: usize, const BYTES: usize> {
    ring: &'r mut Ring<RECORDS, BYTES>,
    flash: Option<Flash<'r, F>>,
    memory: Memory,
    /// What the memory on flash says.
    noted: Memory,
    anchors: Anchors,
    /// By channel, the first and the last ticks of this start, as long as the time is not known.
    ticks: [Option<(i64, i64)>; 2],
    /// Readings on flash that are not in the ring.
    unloaded: usize,
    /// By channel, the number behind that of the last reading that came into the ring.
    next_seq: [u32; 2],
    flash_failures: u32,
    was_damaged: bool,
}

impl<'r, const RECORDS: usize, const BYTES: usize> Outbox<'r, NoFlash, RECORDS, BYTES> {
    /// In RAM only: this is the device's start number `boot`, and its readings are numbered from `seq_first`.
    pub const fn in_ram(room: &'r mut Room<RECORDS, BYTES>, boot: u32, seq_first: u32) -> Self {
        Self::with(
            &mut room.ring,
            None,
            Memory { boot, seq: [seq_first; 2], last_us: [0; 2], dropped: 0, counter: None },
        )
    }
}

impl<'r, F: MultiwriteNorFlash, const RECORDS: usize, const BYTES: usize> Outbox<'r, F, RECORDS, BYTES> {
    /// On flash, from the byte `start` on: goes on with what stands there, as one more start of the device.
    pub async fn open(flash: F, start: u32, room: &'r mut Room<RECORDS, BYTES>) -> Result<Self, FlashFailed> {
        let Room { ring, record } = room;
        let (flash, found) = Flash::open(flash, start, record).await?;
        let mut outbox = Self::with(ring, Some(flash), found.memory);
        outbox.unloaded = found.count;
        outbox.was_damaged = found.was_damaged;
        if found.count > 0 {
            outbox.next_seq = [0; 2];
        }
        Ok(outbox)
    }

    const fn with(ring: &'r mut Ring<RECORDS, BYTES>, flash: Option<Flash<'r, F>>, memory: Memory) -> Self {
        Outbox {
            ring,
            flash,
            memory,
            noted: memory,
            anchors: Anchors::new(memory.boot),
            ticks: [None; 2],
            unloaded: 0,
            next_seq: memory.seq,
            flash_failures: 0,
            was_damaged: false,
        }
    }

    /// How many readings are not acknowledged.
    pub fn len(&self) -> usize {
        self.ring.len() + self.unloaded
    }

    /// Whether every reading was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many readings were dropped: on flash ever, in RAM since the start. Those of a page of flash are not counted
    /// if the power went while they were dropped.
    pub fn dropped(&self) -> u32 {
        self.memory.dropped
    }

    /// How often the flash failed since the start.
    pub fn flash_failures(&self) -> u32 {
        self.flash_failures
    }

    /// Whether the flash was found damaged at the start: readings that waited, or numbers, times and counts of those before
    /// them, are lost. A single reading that cannot be read is passed over without a word.
    pub fn was_damaged(&self) -> bool {
        self.was_damaged
    }

    /// How often the device was started, this time included.
    pub fn boot(&self) -> u32 {
        self.memory.boot
    }

    /// The number of the channel's next reading.
    pub fn seq(&self, channel: Channel) -> u32 {
        self.memory.seq[channel as usize]
    }

    /// What the sensor had counted at its last reading, if it counts.
    pub fn counter(&self) -> Option<u64> {
        self.memory.counter
    }

    /// Keeps, with the next reading of the sensor, what it has counted.
    pub fn count(&mut self, counter: Option<u64>) {
        self.memory.counter = counter;
    }

    /// Whether `count` more readings of `bytes` bytes together can be kept in RAM, behind all others.
    pub fn has_room(&self, count: usize, bytes: usize) -> bool {
        self.unloaded == 0 && self.ring.has_room(count, bytes)
    }

    /// Keeps one reading, taken at `now`, as the newest of its channel; answers how many of the oldest went.
    ///
    /// Where the flash fails, the reading is kept in RAM if it is the next to be sent, and is dropped if not.
    pub async fn push(&mut self, channel: Channel, now: &Moment, fields: &[u8]) -> u32 {
        let dropped_before = self.memory.dropped;
        self.anchor(now).await;
        let key = Key { channel, seq: self.memory.seq[channel as usize] };
        let stamp = self.stamp(channel, now);
        self.memory.seq[channel as usize] = key.seq.saturating_add(1);
        let counter = self.memory.counter.filter(|_| channel == Channel::Sensor);
        let on_flash = self.log(&Record::Reading { key, stamp, counter, fields }).await;
        let is_next = self.unloaded == 0;
        if is_next && (!on_flash || self.ring.has_room(1, fields.len())) {
            self.memory.dropped += self.ring.push(key, stamp, fields);
            self.next_seq[channel as usize] = self.memory.seq[channel as usize];
        } else if on_flash {
            self.unloaded += 1;
        } else {
            self.memory.dropped += 1;
        }
        self.memory.dropped - dropped_before
    }

    /// Once the time is known, gives it to all readings of this start that have ticks.
    pub async fn anchor(&mut self, now: &Moment) {
        let Some(time_us) = credible(now.time_us).filter(|_| self.ticks != [None; 2]) else { return };
        let mut offset_us = [time_us.saturating_sub(ticks_us(now.at)); 2];
        for (channel, ticks) in self.ticks.iter().enumerate() {
            let Some((first, last)) = ticks else { continue };
            // Behind the readings before them, also if the clock was set back.
            let last_us = &mut self.memory.last_us[channel];
            offset_us[channel] = offset_us[channel].max(*last_us + 1 - first);
            *last_us = last + offset_us[channel];
        }
        self.ticks = [None; 2];
        self.anchors.now = Some(offset_us);
        self.ring.anchor(&self.anchors);
        self.log(&Record::Anchor { boot: self.memory.boot, offset_us }).await;
    }

    /// When a reading taken at `now` was taken: by the clock, by ticks whose time is known, or by ticks.
    fn stamp(&mut self, channel: Channel, now: &Moment) -> Stamp {
        let channel = channel as usize;
        let by_ticks =
            || self.anchors.now.map(|offset_us| ticks_us(now.at).saturating_add(offset_us[channel]));
        if let Some(time_us) = credible(now.time_us).or_else(by_ticks) {
            let last_us = &mut self.memory.last_us[channel];
            *last_us = time_us.max(*last_us + 1);
            return Stamp::Time(*last_us);
        }
        let ticks = &mut self.ticks[channel];
        let us = ticks_us(now.at).max(ticks.map_or(0, |(_, last)| last + 1));
        *ticks = Some((ticks.map_or(us, |(first, _)| first), us));
        Stamp::Ticks { boot: self.memory.boot, us }
    }

    /// Moves readings from flash into RAM, where there is room for a good part of them; answers how many are gone, as
    /// their time will never be known or they cannot be read.
    pub async fn fill(&mut self) -> u32 {
        let mut gone = 0;
        while self.unloaded > 0 && self.ring.len() <= RECORDS / 2 {
            let Some(flash) = &mut self.flash else { break };
            let loaded = flash.load(self.ring, &mut self.next_seq, &self.anchors).await;
            self.unloaded = self.unloaded.saturating_sub(loaded.count + loaded.untimed as usize);
            gone += loaded.untimed;
            match loaded.stopped {
                // What was there and is not found is damaged.
                Stopped::End => gone += core::mem::take(&mut self.unloaded) as u32,
                Stopped::Full => break,
                Stopped::Failed => {
                    self.flash_failures += 1;
                    break;
                }
                Stopped::Ask(boot) => match flash.offsets(boot).await {
                    Ok(offsets) => self.anchors.earlier = Some((boot, offsets)),
                    Err(_) => {
                        self.flash_failures += 1;
                        break;
                    }
                },
            }
        }
        if gone > 0 {
            self.memory.dropped += gone;
            self.note().await;
        }
        gone
    }

    /// Adds waiting readings of `channel`, oldest first, to `batch`; see [`Ring::gather`].
    pub fn gather(&mut self, channel: Channel, ticket: Ticket, batch: &mut Batch<'_>) -> usize {
        self.ring.gather(channel, ticket, batch)
    }

    /// The batch was acknowledged: its readings leave. Answers how many, without those dropped meanwhile.
    pub async fn delivered(&mut self, ticket: Ticket) -> usize {
        if self.flash.is_some()
            && let Some((first, last)) = self.ring.ends(ticket)
        {
            // Where no newer reading of the channel is left to tell number and time, the memory has to.
            if last.seq.saturating_add(1) == self.memory.seq[last.channel as usize]
                && self.memory != self.noted
            {
                self.note().await;
            }
            if let Some(flash) = &mut self.flash {
                self.flash_failures += u32::from(flash.remove(first, last).await.is_err());
            }
        }
        self.ring.delivered(ticket)
    }

    /// The batch was refused or lost: its readings wait again, in their old places. Answers how many.
    pub fn release(&mut self, ticket: Ticket) -> usize {
        self.ring.release(ticket)
    }

    /// All that is under way waits again.
    pub fn release_all(&mut self) -> usize {
        self.ring.release_all()
    }

    /// Writes a record to the flash, if there is one, making room for it; answers whether it is there.
    async fn log(&mut self, record: &Record<'_>) -> bool {
        let logged = self.log_or_fail(record).await;
        self.flash_failures += u32::from(logged.is_err());
        logged == Ok(true)
    }

    async fn log_or_fail(&mut self, record: &Record<'_>) -> Result<bool, FlashFailed> {
        let Some(flash) = &mut self.flash else { return Ok(false) };
        while !flash.push(record).await? {
            match flash.drop_oldest().await? {
                Some(Some(key)) => {
                    self.memory.dropped += 1;
                    if key.seq < self.next_seq[key.channel as usize] {
                        self.ring.discard(key);
                    } else {
                        self.unloaded = self.unloaded.saturating_sub(1);
                    }
                }
                Some(None) => {}
                None => return Err(FlashFailed::Broken),
            }
        }
        if self.memory.dropped != self.noted.dropped {
            self.note().await;
        }
        Ok(true)
    }

    async fn note(&mut self) {
        let Some(flash) = &mut self.flash else { return };
        match flash.note(&self.memory).await {
            Ok(()) => self.noted = self.memory,
            Err(_) => self.flash_failures += 1,
        }
    }
}

fn ticks_us(at: Instant) -> i64 {
    at.as_micros() as i64
}
