//! Sharing: what three long questions about the whole country leave to short ones, and to ingest.

use std::{process::Stdio, time::Duration};

use anyhow::Context;
use tokio::task::AbortHandle;
use zeugma_query::{Grant, Query};
use zeugma_tests::{
    Program,
    load::{Crowd, Format, Load, Plan},
    program::free_port,
};

use crate::{
    Args, country,
    ours::{ask, ours},
    question::Dialect,
    race::{median, quantile},
};

/// Short questions of which the slowest hundredth is looked at.
const SHORT: usize = 400;

/// Readings of each run of ingest, and how often it runs without and with long questions, in turns.
const READINGS: u64 = 4_000_000;
const TURNS: usize = 5;

/// As a report over the whole country would ask; each groups tens of millions of rows.
const LONG: [&str; 3] = [
    "SELECT tenant, device, date, avg(speed_kmh), max(odometer_m) - min(odometer_m), count(*) FROM fleet \
     GROUP BY tenant, device, date",
    "SELECT tenant, date, sum(active_power_w) * 0.25, max(active_power_w), count(*) FROM energy GROUP BY tenant, date",
    "SELECT tenant, date_bin(INTERVAL '1 hour', time) AS hour, avg(speed_kmh), avg(fuel_pct) FROM fleet GROUP BY tenant, hour",
];

/// Measures both.
pub async fn measure(args: &Args) -> anyhow::Result<()> {
    let query = ours(&country::lake(args, country::days_of(args.rows)).await?)?;
    let idle = short(&query).await?;
    let long = Long::start(&query);
    // They are under way, and none of them is new.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let shared = short(&query).await?;
    drop(long);
    println!("\n## sharing, with three long questions about the whole country running\n");
    println!("| what | alone | shared | ratio (aim) |");
    println!("|---|--:|--:|--:|");
    for (name, share, aim) in
        [("short questions, median (ms)", 0.5, ""), ("short questions, p99 (ms)", 0.99, " (5)")]
    {
        let (alone, shared) = (quantile(&idle, share), quantile(&shared, share));
        println!("| {name} | {alone:.1} | {shared:.1} | {:.1}{aim} |", shared / alone);
    }
    let (mut alone, mut shared) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        alone.push(ingest_rate().await?);
        let _long = Long::start(&query);
        tokio::time::sleep(Duration::from_secs(2)).await;
        shared.push(ingest_rate().await?);
    }
    let (alone, shared) = (median(&alone), median(&shared));
    println!("| ingest (readings/s acknowledged) | {alone:.0} | {shared:.0} | {:.2} (0.8) |", shared / alone);
    Ok(())
}

/// Long questions, asked again as soon as they are answered; they end when dropped.
struct Long(Vec<AbortHandle>);

impl Long {
    fn start(query: &Query) -> Long {
        let asking = LONG.map(|sql| {
            let query = query.clone();
            let again = async move {
                loop {
                    // What a client would do with the rows is not the reader's.
                    if let Err(error) = query.sql(&Grant::All, sql).await {
                        println!("a long question has no answer: {error}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            };
            tokio::spawn(again).abort_handle()
        });
        Long(asking.into())
    }
}

impl Drop for Long {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// What a page of a dashboard asks, over and over; the times of each.
async fn short(query: &Query) -> anyhow::Result<Vec<f64>> {
    let questions: Vec<String> =
        country::growing().iter().map(|question| question.sql(Dialect::Ours)).collect();
    for sql in &questions {
        ask(query, sql).await?;
    }
    let mut times = Vec::with_capacity(SHORT);
    for sql in questions.iter().cycle().take(SHORT) {
        times.push(ask(query, sql).await?.0);
    }
    Ok(times)
}

/// How many readings a second `zeugma ingest` acknowledges, in a folder of its own; without limits of rate, as
/// one tenant sends here what a whole city may.
async fn ingest_rate() -> anyhow::Result<f64> {
    tokio::task::spawn_blocking(|| {
        let folder = tempfile::tempdir()?;
        let (mqtt, http) = (free_port(), free_port());
        let data = folder.path().join("data").display().to_string();
        let (listener, pages) = (mqtt.to_string(), http.to_string());
        let mut args = vec!["ingest", "--data", &data, "--mqtt", &listener, "--http", &pages];
        args.extend(["--commit-interval", "2s", "--mqtt-rate", "0", "--tenant-rate", "0"]);
        let program = Program::start_with(&args, http, |command| {
            command.stderr(Stdio::null());
        });
        let plan = Plan {
            addr: mqtt,
            crowd: Crowd { connections: 100, devices: 1_000, tenants: 1, seed: 1 },
            format: Format::Avro,
            in_flight: 100,
            rate: None,
            readings: Some(READINGS),
            reconnects: false,
        };
        let report = Load::start(plan)?.finish().context("the load generator")?;
        drop(program);
        Ok(READINGS as f64 / report.elapsed.as_secs_f64())
    })
    .await?
}
