//! `zeugma replay`: the rows of CSV, NDJSON and Parquet files as readings through MQTT.
//!
//! Everything that can be wrong with the call or the files' shape is found before the first reading is sent;
//! after that a bad row is sent as it stands, for the server keeps it among its dead letters.

mod feed;
mod mapping;
mod plan;
mod publish;
mod rows;
mod scan;
mod time;
mod window;

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::{Usage, say};

use mapping::Field;
use plan::Plan;
use publish::Link;

/// Publish the rows of CSV, NDJSON or Parquet files as readings.
///
/// One reading for each row, at QoS 1; rows of a device go out in file order.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files: .csv, .ndjson, .jsonl (each also .gz) and .parquet
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Whose devices they are
    #[arg(long, env = "ZEUGMA_TENANT", value_name = "TENANT")]
    pub tenant: String,
    /// Which table the readings belong to: energy, parking, fleet, …
    #[arg(long, env = "ZEUGMA_DOMAIN", value_name = "DOMAIN")]
    pub domain: String,
    /// Column with the device's name; characters outside a-z A-Z 0-9 . _ - become -
    #[arg(
        long,
        env = "ZEUGMA_DEVICE_COLUMN",
        value_name = "COLUMN",
        required_unless_present = "device",
        conflicts_with = "device"
    )]
    pub device_column: Option<String>,
    /// The device, where all rows are of one
    #[arg(long, env = "ZEUGMA_DEVICE", value_name = "NAME")]
    pub device: Option<String>,
    /// Column with the moment of the reading
    #[arg(long, env = "ZEUGMA_TIME_COLUMN", value_name = "COLUMN")]
    pub time_column: String,
    /// A field of the reading and where it comes from; give it once for each field
    #[arg(
        long,
        env = "ZEUGMA_MAP",
        value_name = "FIELD=COLUMN[*FACTOR]",
        required = true,
        value_delimiter = '\n'
    )]
    pub map: Vec<Field>,
    /// A mapped field that is text in the schema, however much its values look like numbers
    #[arg(long, env = "ZEUGMA_TEXT", value_name = "FIELD", value_delimiter = ',')]
    pub text: Vec<String>,
    /// rfc3339, unix, unix_ms, unix_us, or a pattern as "%d.%m.%Y %H:%M"
    #[arg(long, env = "ZEUGMA_TIME_FORMAT", value_name = "FORMAT", default_value = "rfc3339")]
    pub time_format: String,
    /// IANA name of the zone of times without an offset, as Europe/Athens
    ///
    /// Of an hour that comes twice (autumn) the first is meant; a time that the clocks skip (spring) is read
    /// with the offset from before the jump, so that 01:30 becomes 02:30.
    #[arg(long, env = "ZEUGMA_TIME_ZONE", value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// CSV files have no header line
    #[arg(long, env = "ZEUGMA_NO_HEADER", requires = "columns")]
    pub no_header: bool,
    /// Names of the columns of CSV files without a header line, in order
    #[arg(long, env = "ZEUGMA_COLUMNS", value_name = "A,B,C", value_delimiter = ',', requires = "no_header")]
    pub columns: Vec<String>,
    /// Where the MQTT server listens
    #[arg(long, env = "ZEUGMA_MQTT", value_name = "ADDR", default_value = "127.0.0.1:1883")]
    pub mqtt: String,
    /// max, or how many times as fast as it happened, by the readings' times: 60x
    #[arg(long, env = "ZEUGMA_SPEED", value_name = "SPEED", default_value = "max")]
    pub speed: Speed,
}

/// How fast rows go out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// As fast as they are acknowledged.
    Max,
    /// So many times as fast as it happened.
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Speed, String> {
        let times = || text.strip_suffix('x')?.parse().ok().filter(|times| (1e-3..=1e9).contains(times));
        match text {
            "max" => Ok(Speed::Max),
            _ => times()
                .map(Speed::Times)
                .ok_or_else(|| format!("'{text}' is not max or a number with x, as 60x")),
        }
    }
}

/// How many readings went which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Handed to the connection; sending again after a broken connection does not count.
    pub sent: u64,
    /// Acknowledged: on the server's disk.
    pub acknowledged: u64,
    /// Refused by the server, or too large for any.
    pub refused: u64,
}

impl Summary {
    /// Readings that got an answer.
    fn answered(&self) -> u64 {
        self.acknowledged + self.refused
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent {}, acknowledged {}, refused {}", self.sent, self.acknowledged, self.refused)
    }
}

/// Replays the files; prints the numbers on stdout, also where it was stopped or the connection was lost.
pub async fn run(args: &Args, shutdown: CancellationToken) -> anyhow::Result<Summary> {
    let plan = Arc::new(Plan::new(args)?);
    let scan = {
        let (plan, stop) = (plan.clone(), shutdown.clone());
        Arc::new(tokio::task::spawn_blocking(move || scan::scan(&plan, &stop)).await??)
    };
    let link = plan.link(format!("zeugma-replay-{}", uuid::Uuid::new_v4()));
    let bar = bar(scan.rows);
    let (out, source) = tokio::sync::mpsc::channel(feed::BATCHES_MAX);
    let feeding = tokio::spawn(feeding(plan, scan, out));
    let mut summary = Summary::default();
    let progress = |summary: &Summary| bar.set_position(summary.answered());
    let outcome = publish::publish(&link, source, &shutdown, &mut summary, progress).await;
    bar.finish_and_clear();
    if shutdown.is_cancelled() {
        feeding.abort();
    }
    say::line(&summary.to_string())?;
    eprintln!(
        "what was acknowledged and is no reading is a dead letter: `zeugma dead-letters list` counts them"
    );
    outcome?;
    match feeding.await {
        Err(stopped) if stopped.is_cancelled() => {}
        fed => fed.context("reading the files broke off")??,
    }
    Ok(summary)
}

async fn feeding(
    plan: Arc<Plan>,
    scan: Arc<scan::Scan>,
    out: tokio::sync::mpsc::Sender<Vec<window::Message>>,
) -> anyhow::Result<()> {
    match plan.speed {
        Speed::Max => tokio::task::spawn_blocking(move || feed::feed(&plan, &scan, &out)).await?,
        Speed::Times(speed) => {
            let now_us = chrono::Utc::now().timestamp_micros();
            let due = tokio::task::spawn_blocking(move || feed::order(&plan, &scan, now_us)).await??;
            feed::feed_paced(due, speed, &out).await;
            Ok(())
        }
    }
}

/// A bar on stderr where that is a terminal, otherwise nothing.
fn bar(rows: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:32} {human_pos}/{human_len} acknowledged, {per_sec}, {eta} left")
            .expect("the template is well-formed");
    ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr()).with_style(style)
}

#[cfg(test)]
mod tests;
