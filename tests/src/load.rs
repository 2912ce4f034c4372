//! A load generator that costs little: one thread, raw MQTT 3.1.1, many packets a system call.
//!
//! - [`crowd`] - which reading is whose, and what it holds
//! - [`wire`] - MQTT, as bytes
//! - [`connection`] - one connection: its window, its rate, what it sends again
//! - [`latency`] - from a publish to its acknowledgement

mod connection;
pub mod crowd;
pub mod latency;
pub mod wire;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use mio::{Events, Poll};

use connection::Connection;
pub use crowd::{Crowd, Format};
use latency::Latency;

/// At a rate, each connection publishes what is due so often. A packet a call would make the system calls
/// of both sides the thing measured.
const TICK: Duration = Duration::from_millis(1);
const TICKS_A_ROUND: u64 = 5;

/// How often a connection that broke is tried again.
const CONNECT_EVERY: Duration = Duration::from_millis(50);

/// How often progress is noted.
const NOTE_EVERY: Duration = Duration::from_millis(100);

/// Nothing is acknowledged for so long: the other side has stalled.
const STALL_MAX: Duration = Duration::from_secs(120);

/// What is published, how, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The listener.
    pub addr: SocketAddr,
    /// Whose readings.
    pub crowd: Crowd,
    /// How payloads look.
    pub format: Format,
    /// Publishes of one connection that may wait for their acknowledgement.
    pub in_flight: u64,
    /// Readings a second in all; none for as fast as they are acknowledged.
    pub rate: Option<f64>,
    /// Readings in all; none to go on until stopped.
    pub readings: Option<u64>,
    /// Whether a connection that breaks is made again, and sends again what was not acknowledged;
    /// otherwise it is an error.
    pub reconnects: bool,
}

/// How many readings of a connection were sent (at least in part), and how many acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// The first so many were sent.
    pub sent: u64,
    /// The first so many were acknowledged.
    pub acknowledged: u64,
}

/// What came of a plan.
#[derive(Debug, Clone)]
pub struct Report {
    /// By connection.
    pub counts: Vec<Counts>,
    /// When publishing began: all connections stood.
    pub began: Instant,
    /// From then to the last acknowledgement.
    pub elapsed: Duration,
    /// From encoding a publish to its acknowledgement.
    pub latency: Latency,
    /// How many were acknowledged at which moment after the beginning.
    pub progress: Vec<(Duration, u64)>,
    /// How often a connection broke.
    pub broken: u64,
}

/// A running plan.
#[derive(Debug)]
pub struct Load {
    thread: JoinHandle<anyhow::Result<Report>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

impl Load {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the plan contradicts itself or a thread cannot be started.
    pub fn start(plan: Plan) -> anyhow::Result<Load> {
        let crowd = plan.crowd;
        ensure!(crowd.connections > 0 && crowd.tenants > 0, "there must be connections and tenants");
        ensure!(crowd.devices >= crowd.connections, "there must be a device for each connection");
        ensure!((1..65_535).contains(&plan.in_flight), "a window has 1 to 65,534 packets");
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("load".into()).spawn(move || {
            let mut run = Run::new(plan)?;
            run.run(&theirs)?;
            Ok(run.report())
        })?;
        Ok(Load { thread, shared })
    }

    /// How many readings have been acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Whether it has ended, well or badly.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until every reading is acknowledged.
    pub fn finish(self) -> anyhow::Result<Report> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the load generator panicked"))?
    }

    /// Ends at once, whatever is in flight.
    pub fn stop(self) -> anyhow::Result<Report> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.finish()
    }
}

impl Report {
    /// Readings acknowledged in all.
    pub fn acknowledged(&self) -> u64 {
        self.counts.iter().map(|counts| counts.acknowledged).sum()
    }

    /// Readings sent in all.
    pub fn sent(&self) -> u64 {
        self.counts.iter().map(|counts| counts.sent).sum()
    }

    /// Readings acknowledged a second between two shares of the whole, as 0.8 and 1.0.
    pub fn rate_between(&self, from: f64, to: f64) -> f64 {
        let all = self.acknowledged() as f64;
        let at = |share: f64| {
            let reached = self.progress.iter().find(|(_, count)| *count as f64 >= all * share);
            reached.map_or((self.elapsed, all), |(at, count)| (*at, *count as f64))
        };
        let ((begin, first), (end, last)) = (at(from), at(to));
        (last - first) / (end.saturating_sub(begin)).as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// The state of the thread.
struct Run {
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
    fn new(plan: Plan) -> anyhow::Result<Run> {
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

    fn run(&mut self, shared: &Shared) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        let (mut noted, mut acknowledged) = (Instant::now(), 0);
        while !shared.stop.load(Ordering::Relaxed) && !self.connections.iter().all(Connection::is_done) {
            self.connect()?;
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

    fn report(self) -> Report {
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
