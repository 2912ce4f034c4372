//! The life of a device: sense what is due, keep it, publish it, sleep until something happens.

use core::pin::pin;

use embassy_time::{Duration, Timer, with_timeout};
use minimq::{Io, Session};
use zeugma_schemas::{
    domains::{DeviceHealth, Measurement},
    id::is_id,
};

use crate::{
    backoff::Backoff,
    batch::Format,
    board::{Board, Dial, Event, Lost},
    link::{self, CLIENT_ID_LEN_MAX, Link, RX_BYTES, Sent, TX_BYTES, TopicText},
    name::{client_id, topic},
    publisher::{OPEN_MAX, Publisher, WRITE_MAX},
    random::Random,
    schedule::Pace,
    sense::Senses,
    sensor::Sensor,
    wait::{First, Stop, first},
};

/// Largest encoded reading: JSON of 14 energy fields, 20 characters of name and 20 digits each, is 620.
pub const RECORD_BYTES_MAX: usize = 768;

/// The last farewell may take this long.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// How one device is set up.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Whose device it is.
    pub tenant: &'a str,
    /// Its id within the tenant.
    pub device: &'a str,
    /// How readings are encoded.
    pub format: Format,
    /// How often the sensor is sampled.
    pub pace: Pace,
    /// How often the device reports on itself.
    pub health_every: Duration,
    /// How often the device was started, this time included.
    pub boot: i64,
    /// Number of the first reading of each domain; a device that remembers goes on where it ended.
    pub seq_first: i64,
    /// After so many readings, reports included, it takes no more; `None`: it goes on.
    pub readings_max: Option<u64>,
    /// Longest pause between two attempts to connect, or after a refusal.
    pub pause_max: Duration,
}

/// A name that the device's topic cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tenant and device are named by 1 to 64 of a-z A-Z 0-9 . _ -")]
pub struct InvalidName;

/// A device with one sensor and an outbox of `RECORDS` readings in `BYTES` bytes.
pub struct Device<S, const RECORDS: usize, const BYTES: usize> {
    topics: [TopicText; 2],
    client_id: heapless::String<CLIENT_ID_LEN_MAX>,
    senses: Senses<S, RECORDS, BYTES>,
    publisher: Publisher,
    reconnect: Backoff,
}

impl<S: Sensor, const RECORDS: usize, const BYTES: usize> Device<S, RECORDS, BYTES> {
    /// A device that has not begun.
    pub fn new(settings: &Settings<'_>, sensor: S, random: Random) -> Result<Self, InvalidName> {
        let &Settings { tenant, device, .. } = settings;
        if !is_id(tenant) || !is_id(device) {
            return Err(InvalidName);
        }
        Ok(Device {
            topics: [
                topic(tenant, <S::Reading as Measurement>::DOMAIN, device),
                topic(tenant, DeviceHealth::DOMAIN, device),
            ],
            client_id: client_id(tenant, device),
            senses: Senses::new(settings, sensor, random),
            publisher: Publisher::new(settings.pause_max),
            reconnect: Backoff::new(settings.pause_max),
        })
    }

    /// How many readings wait for their acknowledgement.
    pub fn outbox_len(&self) -> usize {
        self.senses.outbox.len()
    }

    /// Lives until it has taken all its readings or `stop` completes, and what it took is acknowledged.
    ///
    /// May be dropped at any moment; run again, it sends what was not acknowledged.
    pub async fn run<D: Dial, B: Board>(
        &mut self,
        dial: &mut D,
        board: &mut B,
        stop: impl Future<Output = ()>,
    ) {
        let word = pin!(stop);
        let mut stop = Stop::new(word);
        let (mut rx, mut tx) = ([0; RX_BYTES], [0; TX_BYTES]);
        let mut session = link::session(&mut rx, &mut tx, &self.client_id);
        self.publisher.forget();
        self.senses.outbox.release_all();
        while !self.senses.is_done() {
            if let Err(lost) = self.converse(dial, &mut session, board, &mut stop).await {
                board.note(Event::Lost(lost));
                let pause = self.reconnect.after_failure(&mut self.senses.random);
                self.attend(board, &mut stop, Timer::after(pause)).await;
            }
        }
    }

    /// One connection, from dialling to its end.
    async fn converse<D: Dial, B: Board, F: Future<Output = ()>>(
        &mut self,
        dial: &mut D,
        session: &mut Session<'_>,
        board: &mut B,
        stop: &mut Stop<'_, F>,
    ) -> Result<(), Lost> {
        let opening = with_timeout(OPEN_MAX, link::open(dial, session, self.topics.clone()));
        let Some(opened) = self.attend(board, stop, opening).await else { return Ok(()) };
        let mut link = opened.map_err(|_| Lost::TimedOut)??;
        board.note(Event::Connected);
        self.publisher.begin(board.now().at);
        self.settle(&link, false, board);
        while !self.senses.is_done() {
            self.step(&mut link, board, stop).await?;
        }
        // Whether the farewell arrives does not matter any more.
        let _ = with_timeout(CLOSE_MAX, link.close()).await;
        Ok(())
    }

    /// One turn: senses what is due and keeps it, publishes what the window takes, and waits until the
    /// broker answers or the next moment to act.
    async fn step<I: Io, B: Board, F: Future<Output = ()>>(
        &mut self,
        link: &mut Link<'_, '_, I>,
        board: &mut B,
        stop: &mut Stop<'_, F>,
    ) -> Result<(), Lost> {
        let now = self.senses.sense(board);
        if self.publisher.ack_deadline().is_some_and(|deadline| deadline <= now) {
            return Err(Lost::TimedOut);
        }
        while let Some(parcel) = self.publisher.pack(&mut self.senses.outbox, self.senses.format, now, link) {
            let writing = with_timeout(WRITE_MAX, link.publish(&parcel));
            let Some(sent) = self.attend(board, stop, writing).await else { return Ok(()) };
            let sent = sent.unwrap_or(Err(Lost::TimedOut)).inspect_err(|_| {
                self.senses.outbox.release(parcel.ticket);
            })?;
            let refused =
                self.publisher.sent(parcel, &sent, &mut self.senses.outbox, now, &mut self.senses.random);
            if refused > 0 {
                board.note(Event::Refused(refused));
            }
            if matches!(sent, Sent::NotNow) {
                break;
            }
        }
        let ends = [self.senses.next_due(), self.publisher.pause_end(now), self.publisher.ack_deadline()];
        let wake = ends.into_iter().flatten().min();
        let polled = match first(pin!(link.poll()), wake, stop).await {
            First::Work(polled) => polled,
            First::Time => return Ok(()),
            First::Stop => {
                self.senses.stopped = true;
                return Ok(());
            }
        };
        self.settle(link, polled == Ok(true), board);
        polled.map(|_| ())
    }

    /// Keeps sensing while `work` goes on; `None` once nothing is left to do.
    async fn attend<B: Board, F: Future<Output = ()>, W: Future>(
        &mut self,
        board: &mut B,
        stop: &mut Stop<'_, F>,
        work: W,
    ) -> Option<W::Output> {
        let mut work = pin!(work);
        loop {
            self.senses.sense(board);
            if self.senses.is_done() {
                return None;
            }
            match first(work.as_mut(), self.senses.next_due(), stop).await {
                First::Work(output) => return Some(output),
                First::Time => {}
                First::Stop => self.senses.stopped = true,
            }
        }
    }

    fn settle<I: Io, B: Board>(&mut self, link: &Link<'_, '_, I>, refused: bool, board: &mut B) {
        let now = board.now().at;
        let settled =
            self.publisher.settle(link, refused, &mut self.senses.outbox, now, &mut self.senses.random);
        if settled.acknowledged > 0 {
            self.reconnect.succeeded();
            board.note(Event::Acknowledged(settled.acknowledged));
        }
        if settled.refused > 0 {
            board.note(Event::Refused(settled.refused));
        }
    }
}
