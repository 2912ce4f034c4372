//! The life of a device: sense what is due, keep it, publish it, sleep until something happens.

use core::pin::{Pin, pin};

use embassy_time::{Duration, Timer, with_timeout};
use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use minimq::{Io, Session};
use zeugma_schemas::{domains::DeviceHealth, id::is_id};

use crate::{
    backoff::Backoff,
    batch::{Format, PAYLOAD_BYTES_MAX},
    board::{Board, Dial, Event, Lost},
    link::{self, Link, Payload, RX_BYTES, Sent, Series, TX_BYTES},
    name::{CLIENT_ID_LEN_MAX, client_id},
    outbox::Outbox,
    publisher::{OPEN_MAX, Publisher, WRITE_MAX},
    random::Random,
    schedule::Pace,
    sense::Senses,
    sensor::Sensor,
    wait::{First, Stop, first},
};

/// The last farewell may take this long.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// How one device is set up.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Whose device it is.
    pub tenant: &'a str,
    /// Its id within the tenant.
    pub device: &'a str,
    /// What it tells the broker to be let in: user name and password, of 64 bytes each at most.
    pub login: Option<(&'a str, &'a [u8])>,
    /// How readings are encoded.
    pub format: Format,
    /// How often the sensor is sampled.
    pub pace: Pace,
    /// How often the device reports on itself.
    pub health_every: Duration,
    /// After so many readings, reports included, it takes no more; `None`: it goes on.
    pub readings_max: Option<u64>,
    /// Longest pause between two attempts to connect, or after a refusal.
    pub pause_max: Duration,
}

/// A name that the device's topic cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tenant and device are named by 1 to 64 of a-z A-Z 0-9 . _ -")]
pub struct InvalidName;

/// The RAM of a connection: what is received, what is not acknowledged, and the next payload.
pub struct Buffers {
    rx: [u8; RX_BYTES],
    tx: [u8; TX_BYTES],
    payload: Payload,
}

impl Buffers {
    /// Empty.
    pub const fn new() -> Buffers {
        Buffers { rx: [0; RX_BYTES], tx: [0; TX_BYTES], payload: [0; PAYLOAD_BYTES_MAX] }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// A device with one sensor and an [`Outbox`].
pub struct Device<'r, S, F: MultiwriteNorFlash, const RECORDS: usize, const BYTES: usize> {
    series: [Series; 2],
    client_id: heapless::String<CLIENT_ID_LEN_MAX>,
    login: Option<(&'r str, &'r [u8])>,
    life: Life<'r, S, F, RECORDS, BYTES>,
}

impl<'r, S, F, const RECORDS: usize, const BYTES: usize> Device<'r, S, F, RECORDS, BYTES>
where
    S: Sensor,
    F: MultiwriteNorFlash,
{
    /// A device that has not begun.
    pub fn new(
        settings: &Settings<'r>,
        sensor: S,
        outbox: Outbox<'r, F, RECORDS, BYTES>,
        random: Random,
    ) -> Result<Self, InvalidName> {
        let &Settings { tenant, device, .. } = settings;
        if !is_id(tenant) || !is_id(device) {
            return Err(InvalidName);
        }
        Ok(Device {
            series: [Series::new::<S::Reading>(tenant, device), Series::new::<DeviceHealth>(tenant, device)],
            client_id: client_id(tenant, device),
            login: settings.login,
            life: Life {
                senses: Senses::new(settings, sensor, outbox, random),
                publisher: Publisher::new(settings.pause_max),
                reconnect: Backoff::new(settings.pause_max),
            },
        })
    }

    /// How many readings wait for their acknowledgement.
    pub fn outbox_len(&self) -> usize {
        self.life.senses.outbox.len()
    }

    /// Lives until it has taken all its readings or `stop` completes, and what it took is acknowledged.
    ///
    /// May be dropped at any moment; run again, it sends what was not acknowledged.
    pub async fn run<D: Dial, B: Board>(
        &mut self,
        dial: &mut D,
        board: &mut B,
        stop: impl Future<Output = ()>,
        buffers: &mut Buffers,
    ) {
        let word = pin!(stop);
        let mut stop = Stop::new(word);
        let Buffers { rx, tx, payload } = buffers;
        let Device { series, client_id, login, life } = self;
        let mut session = link::session(rx, tx, client_id, *login);
        life.publisher.forget();
        life.senses.outbox.release_all();
        while !life.senses.is_done() {
            if let Err(lost) = life.converse(dial, (&mut session, payload, series), board, &mut stop).await {
                board.note(Event::Lost(lost));
                let pause = Timer::after(life.reconnect.after_failure(&mut life.senses.random));
                life.attend(board, &mut stop, pin!(pause)).await;
            }
        }
    }
}

/// What changes while a device lives.
struct Life<'r, S, F: MultiwriteNorFlash, const RECORDS: usize, const BYTES: usize> {
    senses: Senses<'r, S, F, RECORDS, BYTES>,
    publisher: Publisher,
    reconnect: Backoff,
}

impl<S, F, const RECORDS: usize, const BYTES: usize> Life<'_, S, F, RECORDS, BYTES>
where
    S: Sensor,
    F: MultiwriteNorFlash,
{
    /// One connection, from dialling to its end.
    async fn converse<D: Dial, B: Board, E: Future<Output = ()>>(
        &mut self,
        dial: &mut D,
        (session, payload, series): (&mut Session<'_>, &mut Payload, &[Series; 2]),
        board: &mut B,
        stop: &mut Stop<'_, E>,
    ) -> Result<(), Lost> {
        let opening = pin!(with_timeout(OPEN_MAX, link::open(dial, session, payload, series)));
        let Some(opened) = self.attend(board, stop, opening).await else { return Ok(()) };
        let mut link = opened.map_err(|_| Lost::TimedOut)??;
        board.note(Event::Connected);
        self.publisher.begin(board.now().at);
        self.settle(&link, false, board).await;
        while !self.senses.is_done() {
            self.step(&mut link, board, stop).await?;
        }
        // Whether the farewell arrives does not matter any more.
        let _ = with_timeout(CLOSE_MAX, link.close()).await;
        Ok(())
    }

    /// One turn: senses what is due and keeps it, publishes what the window takes, and waits until the
    /// broker answers or the next moment to act.
    async fn step<I: Io, B: Board, E: Future<Output = ()>>(
        &mut self,
        link: &mut Link<'_, '_, I>,
        board: &mut B,
        stop: &mut Stop<'_, E>,
    ) -> Result<(), Lost> {
        let now = self.senses.sense(board).await;
        self.senses.fill(board).await;
        if self.publisher.ack_deadline().is_some_and(|deadline| deadline <= now) {
            return Err(Lost::TimedOut);
        }
        while let Some(parcel) = self.publisher.pack(&mut self.senses.outbox, self.senses.format, now, link) {
            let writing = pin!(with_timeout(WRITE_MAX, link.publish(&parcel)));
            let Some(sent) = self.attend(board, stop, writing).await else { return Ok(()) };
            let sent = sent.unwrap_or(Err(Lost::TimedOut)).inspect_err(|_| {
                self.senses.outbox.release(parcel.ticket);
            })?;
            let refused =
                self.publisher.sent(&parcel, &sent, &mut self.senses.outbox, now, &mut self.senses.random);
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
        self.settle(link, polled == Ok(true), board).await;
        polled.map(|_| ())
    }

    /// Keeps sensing while `work` goes on; `None` once nothing is left to do.
    async fn attend<B: Board, E: Future<Output = ()>, W: Future>(
        &mut self,
        board: &mut B,
        stop: &mut Stop<'_, E>,
        mut work: Pin<&mut W>,
    ) -> Option<W::Output> {
        loop {
            self.senses.sense(board).await;
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

    async fn settle<I: Io, B: Board>(&mut self, link: &Link<'_, '_, I>, refused: bool, board: &mut B) {
        let now = board.now().at;
        let settled =
            self.publisher.settle(link, refused, &mut self.senses.outbox, now, &mut self.senses.random).await;
        if settled.acknowledged > 0 {
            self.reconnect.succeeded();
            board.note(Event::Acknowledged(settled.acknowledged));
        }
        if settled.refused > 0 {
            board.note(Event::Refused(settled.refused));
        }
    }
}
