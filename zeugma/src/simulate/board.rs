//! What a virtual device stands on: this machine's clock and network.

use std::{cell::Cell, rc::Rc, sync::Arc, time::SystemTime};

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;
use embassy_time::Instant;
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};
use zeugma_firmware::{
    board::{Board, Dial, Event, Lost},
    clock::Moment,
    sensor::Vitals,
    simulated::health,
};

use super::tally::Tally;

/// The board of one device.
pub struct Desk {
    tally: Arc<Tally>,
    zone: Tz,
    seed: u64,
    connected: Rc<Cell<bool>>,
    /// The hour since 1970 and the offset in it: offsets change on the hour or half of it, and are costly to find.
    offset: Cell<(i64, i32)>,
}

/// Half an hour: some zones change in the middle of one.
const OFFSET_HOLDS_US: i64 = 1_800_000_000;

impl Desk {
    /// `connected` tells the outside whether the device has a connection.
    pub fn new(tally: Arc<Tally>, zone: Tz, seed: u64, connected: Rc<Cell<bool>>) -> Desk {
        Desk { tally, zone, seed, connected, offset: Cell::new((i64::MIN, 0)) }
    }

    fn utc_offset_s(&self, time_us: i64) -> i32 {
        let span = time_us.div_euclid(OFFSET_HOLDS_US);
        if self.offset.get().0 != span {
            let utc = DateTime::from_timestamp_micros(time_us).unwrap_or_default().naive_utc();
            self.offset.set((span, self.zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()));
        }
        self.offset.get().1
    }
}

fn unix_us() -> Option<i64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok()
}

impl Board for Desk {
    fn now(&self) -> Moment {
        let time_us = unix_us();
        let utc_offset_s = time_us.map_or(0, |time_us| self.utc_offset_s(time_us));
        Moment { at: Instant::now(), time_us, utc_offset_s }
    }

    fn vitals(&mut self) -> Vitals {
        unix_us().map(|time_us| health::vitals(self.seed, time_us)).unwrap_or_default()
    }

    fn note(&mut self, event: Event) {
        self.tally.note(event, self.connected.get());
        match event {
            Event::Connected => self.connected.set(true),
            Event::Lost(_) => self.connected.set(false),
            _ => {}
        }
    }
}

/// The way to the broker, shared by the devices of a thread.
#[derive(Clone)]
pub struct Way {
    mqtt: Arc<str>,
    turns: Rc<Semaphore>,
}

/// Dials of one thread at a time: a listener's backlog is short, and a refused dial costs a pause.
const DIALS_MAX: usize = 32;

impl Way {
    /// To the broker at `mqtt`.
    pub fn new(mqtt: &str) -> Way {
        Way { mqtt: mqtt.into(), turns: Rc::new(Semaphore::new(DIALS_MAX)) }
    }
}

impl Dial for Way {
    type Io<'a> = Stream;

    async fn dial(&mut self) -> Result<Stream, Lost> {
        let _turn = self.turns.acquire().await.map_err(|_| Lost::Unreachable)?;
        let stream = TcpStream::connect(&*self.mqtt).await.map_err(|_| Lost::Unreachable)?;
        // Small packets must not wait for each other; where that cannot be had, they do.
        let _ = stream.set_nodelay(true);
        Ok(Stream(stream))
    }
}

/// A TCP stream, as the firmware wants it.
pub struct Stream(TcpStream);

impl ErrorType for Stream {
    type Error = ErrorKind;
}

impl Read for Stream {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0.read(buf).await.map_err(|_| ErrorKind::ConnectionReset)
    }
}

impl Write for Stream {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, ErrorKind> {
        self.0.write(buf).await.map_err(|_| ErrorKind::ConnectionReset)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
