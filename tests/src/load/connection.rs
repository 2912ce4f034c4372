//! One connection of the crowd: publishes ahead of its acknowledgements, as far as its window lets it.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use mio::{Interest, Registry, Token, net::TcpStream};

use super::{Counts, Plan, latency::Latency, wire};

/// Bytes encoded before they are written: more would only wait in our memory instead of the kernel's.
const OUT_BYTES: usize = 64 * 1024;

/// Over loopback a listener either takes a connection at once or refuses it at once.
const CONNECT_MAX: Duration = Duration::from_millis(250);

/// Packet ids go from 1 to this; a window is far smaller.
const PACKET_IDS: u64 = 65_535;

/// One connection, whether it stands or not.
pub(super) struct Connection {
    number: u64,
    stream: Option<TcpStream>,
    /// Welcome was said.
    pub is_open: bool,
    /// Encoded, and how much of it is written.
    out: Vec<u8>,
    written: usize,
    /// Read and not understood yet.
    half: Vec<u8>,
    topic: Vec<u8>,
    payload: Vec<u8>,
    /// The reading that goes next; falls back to the acknowledged ones when the connection breaks.
    next: u64,
    counts: Counts,
    /// How many it shall send in all.
    limit: u64,
    /// When the readings before these numbers were encoded, oldest first.
    stamps: VecDeque<(u64, Instant)>,
    /// Since when, and from which reading on, it publishes at its rate.
    paced_from: Option<(Instant, u64)>,
}

impl Connection {
    /// Not connected yet.
    pub fn new(number: u64, limit: u64) -> Connection {
        Connection {
            number,
            stream: None,
            is_open: false,
            out: Vec::with_capacity(OUT_BYTES + 1024),
            written: 0,
            half: Vec::new(),
            topic: Vec::new(),
            payload: Vec::new(),
            next: 0,
            counts: Counts::default(),
            limit,
            stamps: VecDeque::new(),
            paced_from: None,
        }
    }

    /// How many readings were sent and acknowledged.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether everything it shall send is acknowledged.
    pub fn is_done(&self) -> bool {
        self.counts.acknowledged >= self.limit
    }

    /// Whether there is a socket.
    pub fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Connects and introduces itself.
    pub fn connect(&mut self, addr: SocketAddr, registry: &Registry) -> anyhow::Result<()> {
        let stream = std::net::TcpStream::connect_timeout(&addr, CONNECT_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let token = Token(self.number as usize);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        wire::connect(&format!("crowd-{}", self.number), &mut self.out);
        self.write()
    }

    /// Forgets the socket; what was not acknowledged will be sent again.
    pub fn disconnect(&mut self) {
        self.stream = None;
        self.is_open = false;
        self.out.clear();
        self.written = 0;
        self.half.clear();
        self.next = self.counts.acknowledged;
        self.stamps.clear();
        self.paced_from = None;
    }

    /// Encodes and writes what may be sent now, as far as the socket takes it.
    pub fn publish(&mut self, plan: &Plan, now: Instant) -> anyhow::Result<()> {
        loop {
            self.write()?;
            if !self.out.is_empty() || !self.encode(plan, now) {
                return Ok(());
            }
        }
    }

    /// Reads what came; acknowledgements leave their latencies.
    pub fn hear(
        &mut self,
        buffer: &mut [u8],
        latency: &mut Latency,
        now: impl Fn() -> Instant,
    ) -> anyhow::Result<()> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            match stream.read(buffer) {
                Ok(0) => bail!("the other side closed connection {}", self.number),
                Ok(len) => self.understand(&buffer[..len], latency, now())?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("a connection broke"),
            }
        }
    }

    fn understand(&mut self, bytes: &[u8], latency: &mut Latency, now: Instant) -> anyhow::Result<()> {
        let joined;
        let mut rest = bytes;
        if !self.half.is_empty() {
            self.half.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.half);
            rest = &joined;
        }
        let before = self.counts.acknowledged;
        while let Some((heard, len)) = wire::hear(rest) {
            match heard {
                wire::Heard::Acknowledged(id) => {
                    // Out of order would mean that somebody was acknowledged for a reading that is not safe.
                    let expected = packet_id(self.counts.acknowledged);
                    ensure!(id == expected, "PUBACK of packet {id}, the next one is {expected}");
                    self.counts.acknowledged += 1;
                }
                wire::Heard::Connected(0) => self.is_open = true,
                wire::Heard::Connected(code) => bail!("refused with code {code}"),
                wire::Heard::Other => {}
            }
            rest = &rest[len..];
        }
        self.half.extend_from_slice(rest);
        ensure!(self.counts.acknowledged <= self.counts.sent, "acknowledged what was never sent");
        self.settle(before, latency, now);
        Ok(())
    }

    /// Counts the latencies of what was acknowledged since.
    fn settle(&mut self, mut from: u64, latency: &mut Latency, now: Instant) {
        while from < self.counts.acknowledged {
            let Some((through, at)) = self.stamps.front().copied() else { return };
            let to = through.min(self.counts.acknowledged);
            latency.add(now.saturating_duration_since(at), to - from);
            if to == through {
                self.stamps.pop_front();
            }
            from = to;
        }
    }

    /// Encodes what window, rate and buffer allow; whether that was anything.
    fn encode(&mut self, plan: &Plan, now: Instant) -> bool {
        if !self.is_open {
            return false;
        }
        let window = self.counts.acknowledged + plan.in_flight;
        let through = self.due(plan, now).min(window).min(self.limit);
        let before = self.next;
        while self.next < through && self.out.len() < OUT_BYTES {
            let reading = plan.crowd.reading(self.number, self.next);
            self.topic.clear();
            self.payload.clear();
            plan.crowd.topic(reading.device, &mut self.topic);
            plan.crowd.payload(plan.format, reading, &mut self.payload);
            wire::publish(packet_id(self.next), &self.topic, &self.payload, &mut self.out);
            self.next += 1;
        }
        if self.next == before {
            return false;
        }
        self.counts.sent = self.counts.sent.max(self.next);
        self.stamps.push_back((self.next, now));
        true
    }

    /// How many readings may have gone by now, by the rate. It counts from when the connection opened, so
    /// that a time without one leaves no debt.
    fn due(&mut self, plan: &Plan, now: Instant) -> u64 {
        let Some(rate) = plan.rate else { return u64::MAX };
        let (from, first) = *self.paced_from.get_or_insert((now, self.next));
        let share = rate / plan.crowd.connections as f64;
        first + (now.saturating_duration_since(from).as_secs_f64() * share) as u64
    }

    /// Writes what is encoded, as far as the socket takes it.
    pub fn write(&mut self) -> anyhow::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while self.written < self.out.len() {
            match stream.write(&self.out[self.written..]) {
                Ok(len) => self.written += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("a connection broke"),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}

fn packet_id(number: u64) -> u16 {
    (number % PACKET_IDS + 1) as u16
}
