//! The thread of a load: connects, waits for what comes, publishes on.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use mio::{Events, Poll};

use super::{Plan, Report, Shared, connection::Connection, latency::Latency};

/// At a rate, each connection publishes what is due so often. A packet a call would make the system calls
/// of both sides the thing measured.
const TICK: Duration = Duration::from_millis(1);
const TICKS_A_ROUND: u64 = 5;

/// Without a rate, acknowledgements gather for so long before they are read. A side that sends each by
/// itself would otherwise wake us for each, and pay for our system calls: at 200,000 readings a second
/// with 10,000 in flight it takes 50 ms until a publish is acknowledged, so this costs nobody anything.
const GATHER: Duration = Duration::from_micros(300);

/// How often a connection that broke is tried again.
const CONNECT_EVERY: Duration = Duration::from_millis(50);

/// How often progress is noted.
const NOTE_EVERY: Duration = Duration::from_millis(100);

/// Nothing is acknowledged for so long: the other side has stalled.
const STALL_MAX: Duration = Duration::from_secs(120);

/// The state of the thread.
pub(super) struct Run {
    plan: Plan,
    poll: Poll,
    connections: Vec<Connection>,
    latency: Latency,
    began: Option<Instant>,
    progress: Vec<(Duration, u64)>,
    last: Instant,
    broken: u64,
    buffer: Vec<u8>,
    /// The rounds of a rate: how many, and when the last was.
    ticks: u64,
    ticked: Instant,
    tried: Option<Instant>,
}

impl Run {
    /// Nothing is connected yet.
    pub fn new(plan: Plan) -> anyhow::Result<Run> {
        let count = plan.crowd.connections;
        let share = |number: u64| match plan.readings {
            Some(all) => all / count + u64::from(all % count > number),
            None => u64::MAX,
        };
        Ok(Run {
            connections: (0..count).map(|number| Connection::new(number, share(number))).collect(),
            poll: Poll::new()?,
            plan,
            latency: Latency::default(),
            began: None,
            progress: Vec::new(),
            last: Instant::now(),
            broken: 0,
            buffer: vec![0; 64 * 1024],
            ticks: 0,
            ticked: Instant::now(),
            tried: None,
        })
    }

    /// Goes on until everything is acknowledged, or it is stopped.
    pub fn run(&mut self, shared: &Shared) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        let (mut noted, mut acknowledged) = (Instant::now(), 0);
        while !shared.stop.load(Ordering::Relaxed) && !self.connections.iter().all(Connection::is_done) {
            self.connect()?;
            if self.plan.rate.is_none() {
                std::thread::sleep(GATHER);
            }
            let patience = if self.plan.rate.is_some() { TICK } else { NOTE_EVERY };
            match self.poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                self.serve(event.token().0)?;
            }
            self.begin()?;
            self.pace()?;
            let now = Instant::now();
            let before = acknowledged;
            acknowledged = self.connections.iter().map(|connection| connection.counts().acknowledged).sum();
            shared.acknowledged.store(acknowledged, Ordering::Relaxed);
            if acknowledged > before {
                self.last = now;
            }
            ensure!(now - self.last < STALL_MAX || self.plan.reconnects, "nothing is acknowledged any more");
            if let Some(began) = self.began.filter(|_| now - noted >= NOTE_EVERY) {
                self.progress.push((now - began, acknowledged));
                noted = now;
            }
        }
        Ok(())
    }

    /// What came of it.
    pub fn report(self) -> Report {
        let began = self.began.unwrap_or(self.last);
        Report {
            counts: self.connections.iter().map(Connection::counts).collect(),
            began,
            elapsed: self.last.saturating_duration_since(began),
            latency: self.latency,
            progress: self.progress,
            broken: self.broken,
        }
    }

    /// Makes the connections that are missing.
    fn connect(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let missing = self.connections.iter().any(|connection| !connection.is_connected());
        if !missing || self.tried.is_some_and(|tried| now - tried < CONNECT_EVERY) {
            return Ok(());
        }
        self.tried = Some(now);
        for connection in self.connections.iter_mut().filter(|connection| !connection.is_connected()) {
            match connection.connect(self.plan.addr, self.poll.registry()) {
                Ok(()) => {}
                // The others would fare no better.
                Err(_) if self.plan.reconnects => return Ok(()),
                Err(error) => return Err(error.context(format!("cannot connect to {}", self.plan.addr))),
            }
        }
        Ok(())
    }

    /// Everything that one connection may do now.
    fn serve(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(connection) = self.connections.get_mut(number) else { return Ok(()) };
        let mut served = connection.hear(&mut self.buffer, &mut self.latency, Instant::now);
        if served.is_ok() && self.began.is_some() {
            served = match self.plan.rate {
                // At a rate the rounds publish; what is half written goes on.
                Some(_) => connection.write(),
                None => connection.publish(&self.plan, Instant::now()),
            };
        }
        self.survive(number, served)
    }

    /// A connection that broke is forgotten, where it may be made again.
    fn survive(&mut self, number: usize, served: anyhow::Result<()>) -> anyhow::Result<()> {
        let Err(error) = served else { return Ok(()) };
        if !self.plan.reconnects {
            return Err(error).with_context(|| format!("connection {number}"));
        }
        self.connections[number].disconnect();
        self.broken += 1;
        Ok(())
    }

    /// Publishing begins once all connections stand.
    fn begin(&mut self) -> anyhow::Result<()> {
        if self.began.is_some() || !self.connections.iter().all(|connection| connection.is_open) {
            return Ok(());
        }
        self.began = Some(Instant::now());
        self.last = Instant::now();
        self.publish(|_| true)
    }

    /// At a rate, a part of the connections at each tick.
    fn pace(&mut self) -> anyhow::Result<()> {
        if self.plan.rate.is_none() || self.began.is_none() || self.ticked.elapsed() < TICK {
            return Ok(());
        }
        self.ticked = Instant::now();
        self.ticks += 1;
        let part = self.ticks % TICKS_A_ROUND;
        self.publish(|number| number % TICKS_A_ROUND == part)
    }

    fn publish(&mut self, whose: impl Fn(u64) -> bool) -> anyhow::Result<()> {
        for number in 0..self.connections.len() {
            if whose(number as u64) {
                let served = self.connections[number].publish(&self.plan, Instant::now());
                self.survive(number, served)?;
            }
        }
        Ok(())
    }
}
