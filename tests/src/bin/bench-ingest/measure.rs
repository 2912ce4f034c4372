//! One run: readings go one way, and it is seen when they are acknowledged, visible and committed.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use zeugma_tests::{
    load::{Crowd, Format, Load, Plan, Report},
    process,
};

use crate::{
    Args,
    sides::{Mosquitto, Subscriber, Zeugma},
};

/// After the last acknowledgement everything must be visible and committed in this time.
const SETTLE_MAX: Duration = Duration::from_secs(180);

/// Seed of every run: all see the same readings.
const SEED: u64 = 1;

/// A way that readings go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Straight into `zeugma ingest`.
    Door { format: Format, devices: u64, tenants: u64 },
    /// Through mosquitto into a subscriber that only acknowledges.
    Subscriber { format: Format },
    /// Through mosquitto into `zeugma ingest`.
    Broker,
}

/// What was seen of one run.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub readings: u64,
    pub report: Report,
    /// From the first publish until all could be asked for; at the subscriber, until all had come.
    pub visible: Duration,
    /// And until all were in the lake.
    pub committed: Option<Duration>,
    /// Of `zeugma ingest`, or of mosquitto.
    pub peak_mib: f64,
    /// Processor time of the programs that were measured, and of the load generator.
    pub used: Duration,
    pub load_used: Duration,
}

impl Way {
    /// Its name in the table.
    pub fn name(self) -> String {
        match self {
            Way::Door { format, devices, tenants } => {
                format!("zeugma, {format:?}, {devices} devices, {tenants} tenants")
            }
            Way::Subscriber { format } => format!("mosquitto + subscriber, {format:?}"),
            Way::Broker => "mosquitto + zeugma, Avro".to_owned(),
        }
    }

    fn format(self) -> Format {
        match self {
            Way::Door { format, .. } | Way::Subscriber { format } => format,
            Way::Broker => Format::Avro,
        }
    }
}

impl Outcome {
    /// Readings a second, acknowledged.
    pub fn acknowledged_rate(&self) -> f64 {
        self.readings as f64 / self.report.elapsed.as_secs_f64()
    }

    /// Readings a second with everything that this way includes.
    pub fn rate(&self) -> f64 {
        let all = self.visible.max(self.committed.unwrap_or_default()).max(self.report.elapsed);
        self.readings as f64 / all.as_secs_f64()
    }

    /// Readings a second that questions see. What is committed comes at intervals, which a run is too short for when
    /// two of ours are compared.
    pub fn visible_rate(&self) -> f64 {
        self.readings as f64 / self.visible.max(self.report.elapsed).as_secs_f64()
    }

    /// How the end of the run compares with its beginning: the last fifth with the first.
    pub fn end_to_start(&self) -> f64 {
        self.report.rate_between(0.8, 1.0) / self.report.rate_between(0.0, 0.2)
    }
}

/// Sends `readings` one way; at a rate, or as fast as they are acknowledged.
pub fn run(way: Way, args: &Args, readings: u64, rate: Option<f64>) -> anyhow::Result<Outcome> {
    let (devices, tenants) = match way {
        Way::Door { devices, tenants, .. } => (devices, tenants),
        _ => (args.load.devices, 1),
    };
    let crowd = Crowd { connections: args.load.connections, devices, tenants, seed: SEED };
    let plan = |addr| Plan {
        addr,
        crowd,
        format: way.format(),
        in_flight: args.load.in_flight,
        rate,
        readings: Some(readings),
        reconnects: false,
    };
    match way {
        Way::Door { .. } => {
            let zeugma = Zeugma::start(&args.commit_interval, None, args.data.as_deref())?;
            let mqtt = zeugma.mqtt;
            through_zeugma(zeugma, plan(mqtt), readings, None)
        }
        Way::Broker => {
            let broker = Mosquitto::start()?;
            let zeugma = Zeugma::start(&args.commit_interval, Some(broker.addr), args.data.as_deref())?;
            through_zeugma(zeugma, plan(broker.addr), readings, Some(broker))
        }
        Way::Subscriber { .. } => to_subscriber(plan, readings),
    }
}

fn through_zeugma(
    zeugma: Zeugma,
    plan: Plan,
    readings: u64,
    broker: Option<Mosquitto>,
) -> anyhow::Result<Outcome> {
    let before = process::processor_time(std::process::id()).unwrap_or_default();
    let report = Load::start(plan)?.finish().with_context(|| zeugma.log())?;
    let load_used = process::processor_time(std::process::id()).unwrap_or_default() - before;
    let mut visible = Duration::ZERO;
    let mut committed = Duration::ZERO;
    let settled = zeugma.asker.until("all readings to be committed", SETTLE_MAX, |asker| {
        if visible.is_zero() {
            let found = asker.number("SELECT count(*) FROM fleet")?;
            ensure!(found <= readings, "{found} readings were found, {readings} sent");
            if found == readings {
                visible = report.began.elapsed();
            }
        }
        let found = asker.metric("zeugma_committed_total{domain=\"fleet\"}")? as u64;
        committed = report.began.elapsed();
        Ok(found == readings && !visible.is_zero())
    });
    settled.with_context(|| zeugma.log())?;
    let found = zeugma.asker.number("SELECT count(*) FROM fleet")?;
    ensure!(found == readings, "{found} readings were found, {readings} sent");
    let used = process::processor_time(zeugma.pid()).unwrap_or_default();
    let broker_used = broker.and_then(|broker| process::processor_time(broker.pid())).unwrap_or_default();
    let peak_mib = process::peak_mib(zeugma.pid()).unwrap_or_default();
    zeugma.stop()?;
    let used = used + broker_used;
    Ok(Outcome { readings, report, visible, committed: Some(committed), peak_mib, used, load_used })
}

fn to_subscriber(plan: impl Fn(std::net::SocketAddr) -> Plan, readings: u64) -> anyhow::Result<Outcome> {
    let broker = Mosquitto::start()?;
    let mut subscriber = Subscriber::start(broker.addr, readings)?;
    let before = process::processor_time(std::process::id()).unwrap_or_default();
    // The subscriber may be done before the load generator has heard the last acknowledgement, so both
    // moments are taken where they happen.
    let waiting = std::thread::spawn(move || subscriber.done().map(|used| (used, Instant::now())));
    let report = Load::start(plan(broker.addr))?.finish()?;
    let load_used = process::processor_time(std::process::id()).unwrap_or_default() - before;
    let waited = waiting.join().map_err(|_| anyhow::anyhow!("waiting for the subscriber panicked"))?;
    let (subscriber_used, done) = waited?;
    let visible = done.saturating_duration_since(report.began);
    let used = process::processor_time(broker.pid()).unwrap_or_default() + subscriber_used;
    let peak_mib = process::peak_mib(broker.pid()).unwrap_or_default();
    Ok(Outcome { readings, report, visible, committed: None, peak_mib, used, load_used })
}
