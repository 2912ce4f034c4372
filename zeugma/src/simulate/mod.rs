//! `zeugma simulate`: many virtual devices in one process, each running the firmware over TCP.
//!
//! - [`city`]: the towns there are, and what stands in them
//! - [`plan`]: from the command's arguments to one order for each device; pure
//! - [`crowd`]: threads that let the devices live
//! - [`board`]: what a virtual device stands on: this machine's clock and network
//! - [`tally`]: what happened, counted over all devices
//! - [`timer`]: the firmware's time driver, for thousands of tasks

mod board;
mod city;
mod crowd;
mod plan;
mod tally;
mod timer;

use std::{fmt, sync::Arc, time::Duration};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::Usage;

use tally::Tally;

/// Once all readings are taken, this long without an acknowledgement ends the command.
const LAST_ACKS_MAX: Duration = Duration::from_secs(10);

/// How often the progress bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Publish the readings of virtual devices.
///
/// Meters, car parks, buses and hotspots of a few towns, each a device of its own with its own connection.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many tenants: lamia, ostrava, szeged, and more
    #[arg(long, env = "ZEUGMA_TENANTS", default_value_t = 3, value_name = "N")]
    pub tenants: usize,
    /// How many devices in all
    #[arg(long, env = "ZEUGMA_DEVICES", default_value_t = 30, value_name = "N")]
    pub devices: usize,
    /// Readings per second in all; 0: as fast as they are acknowledged [default: one per device every 5 s]
    #[arg(long, env = "ZEUGMA_RATE", value_name = "R")]
    pub rate: Option<f64>,
    /// Stop after this many readings in all [default: go on until Ctrl-C]
    #[arg(long, env = "ZEUGMA_COUNT", value_name = "N")]
    pub count: Option<u64>,
    /// The MQTT broker, or a running zeugma
    #[arg(long, env = "ZEUGMA_MQTT", default_value = "127.0.0.1:1883", value_name = "ADDR")]
    pub mqtt: String,
    /// Another number makes another city
    #[arg(long, env = "ZEUGMA_SEED", default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// How readings are encoded
    #[arg(long, env = "ZEUGMA_FORMAT", value_enum, default_value_t = Format::Avro)]
    pub format: Format,
}

/// How readings are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Avro single-object encoding
    Avro,
    /// JSON objects
    Json,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Readings taken by all devices, their reports on themselves included.
    pub taken: u64,
    /// Of these, accepted by the broker.
    pub acknowledged: u64,
    /// Times that a reading was refused; it was tried again.
    pub refused: u64,
    /// Readings dropped by full outboxes.
    pub dropped: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "acknowledged {} of {} readings", self.acknowledged, self.taken)
    }
}

/// Lets the devices live until they have taken `--count` readings or `shutdown` comes, waits a few seconds
/// for what is not acknowledged, and answers what came of it.
pub async fn run(args: &Args, shutdown: CancellationToken) -> anyhow::Result<Summary> {
    let orders = plan::orders(args)?;
    let tally = Arc::new(Tally::new(&args.mqtt));
    // Whoever drops this future ends the devices, too.
    let stop = shutdown.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    let threads = crowd::start(orders, &tally, &stop).context("cannot start the devices' threads")?;
    watch(args.count, &tally, &stop, threads).await?;
    let summary = tally.summary();
    if summary.dropped > 0 {
        tracing::warn!("{} readings were dropped by full outboxes", summary.dropped);
    }
    Ok(summary)
}

/// Waits for all threads; ends them if the last acknowledgements do not come.
async fn watch(
    count: Option<u64>,
    tally: &Tally,
    stop: &CancellationToken,
    threads: Vec<oneshot::Receiver<()>>,
) -> anyhow::Result<()> {
    let bar = progress_bar(count);
    let mut all = std::pin::pin!(async {
        for thread in threads {
            thread.await.context("a thread of devices ended early")?;
        }
        anyhow::Ok(())
    });
    let (mut acknowledged, mut since) = (0, Instant::now());
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            ended = &mut all => {
                bar.finish_and_clear();
                return ended;
            }
            _ = tick.tick() => {}
        }
        let now = tally.summary();
        bar.set_position(now.acknowledged);
        if now.acknowledged != acknowledged || Some(now.taken) != count || !tally.was_connected() {
            (acknowledged, since) = (now.acknowledged, Instant::now());
        } else if since.elapsed() > LAST_ACKS_MAX && !stop.is_cancelled() {
            tracing::warn!("the last acknowledgements did not come within {} s", LAST_ACKS_MAX.as_secs());
            stop.cancel();
        }
    }
}

fn progress_bar(count: Option<u64>) -> ProgressBar {
    let Some(count) = count else { return ProgressBar::hidden() };
    let bar = ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} readings, {per_sec}, {eta} left");
    bar.with_style(style.expect("the template is well-formed"))
}

#[cfg(test)]
mod tests;
