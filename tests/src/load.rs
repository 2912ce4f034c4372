//! A load generator that costs little: one thread, raw MQTT 3.1.1, many packets a system call.
//!
//! - [`crowd`] - which reading is whose, and what it holds
//! - [`wire`] - MQTT, as bytes
//! - [`connection`] - one connection: its window, its rate, what it sends again
//! - [`run`] - the thread: connects, waits for what comes, publishes on
//! - [`latency`] - from a publish to its acknowledgement

mod connection;
pub mod crowd;
pub mod latency;
mod run;
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

use anyhow::ensure;

pub use crowd::{Crowd, Format};
use latency::Latency;
use run::Run;

/// How large a load is, as flags of the programs that measure.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArgs {
    /// Connections of the load generator
    #[arg(long, default_value_t = 100)]
    pub connections: u64,
    /// Publishes of one connection that may wait for their acknowledgement
    #[arg(long, default_value_t = 100)]
    pub in_flight: u64,
    /// Devices, where nothing else is said
    #[arg(long, default_value_t = 1_000)]
    pub devices: u64,
}

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
