//! The sensing half of a device: takes what is due, encodes it and keeps it.

use embassy_time::{Duration, Instant};
use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use zeugma_schemas::domains::DeviceHealth;

use crate::{
    batch::Format,
    board::{Board, Event},
    clock::Moment,
    device::Settings,
    outbox::Outbox,
    random::Random,
    record::FIELDS_BYTES_MAX,
    schedule::{Channel, Pace, Schedule},
    sensor::{Missing, Sensor},
};

/// An eager sensor fills the outbox so far and no further: what the window of four payloads holds.
const EAGER_MAX: usize = 64;

/// Sensor, schedule and outbox; knows no network.
pub(crate) struct Senses<'r, S, F: MultiwriteNorFlash, const RECORDS: usize, const BYTES: usize> {
    pub(crate) outbox: Outbox<'r, F, RECORDS, BYTES>,
    pub(crate) format: Format,
    pub(crate) random: Random,
    /// Whether the device was told to take no more readings.
    pub(crate) stopped: bool,
    pace: Pace,
    health_every: Duration,
    remaining: Option<u64>,
    sensor: S,
    /// When it was switched on, and what is due; made at the first look.
    schedule: Option<(Instant, Schedule)>,
    /// Failures of the flash that were told.
    flash_failures: u32,
}

impl<'r, S, F, const RECORDS: usize, const BYTES: usize> Senses<'r, S, F, RECORDS, BYTES>
where
    S: Sensor,
    F: MultiwriteNorFlash,
{
    pub(crate) fn new(
        settings: &Settings<'_>,
        mut sensor: S,
        outbox: Outbox<'r, F, RECORDS, BYTES>,
        random: Random,
    ) -> Self {
        if let Some(counter) = outbox.counter() {
            sensor.resume(counter);
        }
        Senses {
            outbox,
            format: settings.format,
            random,
            stopped: false,
            pace: settings.pace,
            health_every: settings.health_every,
            remaining: settings.readings_max,
            sensor,
            schedule: None,
            flash_failures: 0,
        }
    }

    /// Takes and keeps every reading that is due; answers the moment it did so.
    pub(crate) async fn sense<B: Board>(&mut self, board: &mut B) -> Instant {
        let now = board.now();
        if self.schedule.is_none() {
            let phase_us = if let Pace::Every(every) = self.pace { every.as_micros() } else { 0 };
            let phase = Duration::from_micros(self.random.below(phase_us));
            self.schedule = Some((now.at, Schedule::new(now.at, self.pace, self.health_every, phase)));
        }
        self.outbox.anchor(&now).await;
        // In turns, so that an eager sensor leaves room for the report.
        let mut any = true;
        while any {
            any = false;
            for channel in Channel::ALL {
                any |= self.take(channel, &now, board).await;
            }
        }
        self.tell_flash_failures(board);
        now.at
    }

    /// Makes the oldest readings ready to be sent.
    pub(crate) async fn fill<B: Board>(&mut self, board: &mut B) {
        let untimed = self.outbox.fill().await;
        if untimed > 0 {
            board.note(Event::Dropped(untimed.into()));
        }
        self.tell_flash_failures(board);
    }

    fn tell_flash_failures<B: Board>(&mut self, board: &mut B) {
        let failures = self.outbox.flash_failures();
        if failures > self.flash_failures {
            self.flash_failures = failures;
            board.note(Event::FlashFailed);
        }
    }

    /// Takes one reading of `channel` if it is due and wanted; answers whether it was.
    async fn take<B: Board>(&mut self, channel: Channel, now: &Moment, board: &mut B) -> bool {
        if self.next_of(channel).is_none_or(|next| next > now.at) {
            return false;
        }
        let mut buf = [0; FIELDS_BYTES_MAX];
        let taken = self.encode(channel, now, board, &mut buf);
        if let Some((_, schedule)) = &mut self.schedule {
            let late = schedule.advance(channel, now.at, taken.is_ok());
            if late > 0 {
                board.note(Event::Missing { reason: Missing::Late, count: late });
            }
        }
        match taken {
            Ok(Some(len)) => self.keep(channel, now, &buf[..len], board).await,
            Ok(None) => {}
            Err(reason) => board.note(Event::Missing { reason, count: 1 }),
        }
        true
    }

    async fn keep<B: Board>(&mut self, channel: Channel, now: &Moment, fields: &[u8], board: &mut B) {
        self.remaining = self.remaining.map(|left| left - 1);
        board.note(Event::Taken(channel));
        self.outbox.count(self.sensor.counter());
        let dropped = self.outbox.push(channel, now, fields).await;
        if dropped > 0 {
            board.note(Event::Dropped(dropped.into()));
        }
    }

    fn encode<B: Board>(
        &mut self,
        channel: Channel,
        now: &Moment,
        board: &mut B,
        buf: &mut [u8],
    ) -> Result<Option<usize>, Missing> {
        let encoded = match channel {
            Channel::Sensor => match self.sensor.sample(now)? {
                Some(reading) => self.format.fields(&reading, buf),
                None => return Ok(None),
            },
            Channel::Health => self.format.fields(&self.health(now, board), buf),
        };
        encoded.map(Some).map_err(|_| Missing::TooLarge)
    }

    fn health<B: Board>(&self, now: &Moment, board: &mut B) -> DeviceHealth {
        let vitals = board.vitals();
        let started = self.schedule.map_or(now.at, |(started, _)| started);
        DeviceHealth {
            boot: Some(self.outbox.boot().into()),
            uptime_s: Some(now.at.saturating_duration_since(started).as_secs() as i64),
            battery_v: vitals.battery_v,
            rssi_dbm: vitals.rssi_dbm,
            firmware: Some(env!("CARGO_PKG_VERSION")),
            outbox_len: Some(self.outbox.len() as i32),
            dropped: Some(self.outbox.dropped().into()),
        }
    }

    /// When the device has to sense again; `None` while only an acknowledgement can make it.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        Channel::ALL.into_iter().filter_map(|channel| self.next_of(channel)).min()
    }

    fn next_of(&self, channel: Channel) -> Option<Instant> {
        let (_, schedule) = self.schedule.as_ref()?;
        // Two records: one for the sensor, one for the report that may be due in the same turn.
        let has_room = self.outbox.len() < EAGER_MAX && self.outbox.has_room(2, 2 * FIELDS_BYTES_MAX);
        let wanted = !self.stopped && self.remaining != Some(0) && (has_room || !schedule.is_eager(channel));
        wanted.then(|| schedule.next(channel))
    }

    /// Whether no reading is wanted any more and none is left.
    pub(crate) fn is_done(&self) -> bool {
        (self.stopped || self.remaining == Some(0)) && self.outbox.is_empty()
    }
}
