//! A storm against the real program: thousands of devices come back at once, among bad guests.
//!
//! `cargo run --release -p zeugma-tests --bin storm -- --connections 10000 --each 100 --guests 500`
//! Exit code 1 where anything acknowledged is missing or there twice, or somebody could not deliver.

use std::{
    process::ExitCode,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use zeugma_tests::{
    Program, program,
    storm::{self, Config, Outcome, found::Found, guests::KINDS},
};

/// Files this side needs: a socket of each connection, and a few.
const FILES_BESIDE: usize = 200;

/// How large a storm.
#[derive(Debug, Parser)]
struct Args {
    /// Devices that come back at once
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Readings that each has kept
    #[arg(long, default_value_t = 100)]
    each: usize,
    /// Tenants among whom they are spread
    #[arg(long, default_value_t = 332)]
    tenants: usize,
    /// Bad guests of each of seven kinds
    #[arg(long, default_value_t = 0)]
    guests: usize,
    /// Devices that go on as if nothing were
    #[arg(long, default_value_t = 10)]
    steady: usize,
    /// How long the storm may last, seconds
    #[arg(long, default_value_t = 300)]
    at_most: u64,
    /// More flags for the server, as "--tenant-connections 50"
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    flags: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let wanted = args.connections + args.guests * KINDS.len() + args.steady + FILES_BESIDE;
    let files = rlimit::increase_nofile_limit(wanted as u64).context("the limit of open files")?;
    anyhow::ensure!(files >= wanted as u64, "{wanted} open files are needed, {files} are allowed");
    let folder = tempfile::tempdir()?;
    let (mqtt, http) = (program::free_port(), program::free_port());
    let (data, mqtt_text, http_text) =
        (folder.path().display().to_string(), mqtt.to_string(), http.to_string());
    let mut line = vec!["ingest", "--data", &data, "--mqtt", &mqtt_text, "--http", &http_text];
    line.extend(args.flags.split_whitespace());
    let server = Program::start(&line, http);
    let config = Config {
        mqtt,
        connections: args.connections,
        each: args.each,
        tenants: args.tenants,
        guests: args.guests,
        steady: args.steady,
        at_most: Duration::from_secs(args.at_most),
    };
    let outcome = storm::run(&config).await?;
    let url = format!("http://{http}");
    let asked = Instant::now();
    let found = outcome.check.ask(&url).await?;
    let metrics = reqwest::get(format!("{url}/metrics")).await?.text().await?;
    report(&outcome, &found, &metrics, server.memory_peak_kib()?, asked.elapsed());
    let stopped = server.interrupt();
    let is_right = found.is_right()
        && outcome.delivered == outcome.stored
        && outcome.waits.unheard == 0
        && stopped.success();
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(outcome: &Outcome, found: &Found, metrics: &str, peak_kib: u64, asking: Duration) {
    let metric = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or(" ?").trim();
    let ms = |wait: Duration| wait.as_secs_f64() * 1e3;
    println!("stored         {} readings, delivered {}", outcome.stored, outcome.delivered);
    println!(
        "storm          {:.1} s; dials {}, broken or refused {}",
        outcome.took.as_secs_f64(),
        outcome.dials,
        outcome.broken
    );
    println!("acknowledged   {} (with those who went on)", outcome.check.acknowledged());
    println!(
        "found by SQL   {} in {:.1} s; lost {}, twice {}, foreign {}",
        found.rows,
        asking.as_secs_f64(),
        found.lost,
        found.twice,
        found.foreign
    );
    println!(
        "turned away    {} connections; a limit slowed one {} times",
        metric("zeugma_turned_away_total"),
        metric("zeugma_slowed_total")
    );
    for (at, kind) in KINDS.iter().enumerate() {
        let (begun, ended) = (outcome.visits.begun[at].load(Relaxed), outcome.visits.ended[at].load(Relaxed));
        if begun > 0 {
            println!("guests         {kind:?}: {begun} visits, {ended} ended by the server");
        }
    }
    let waits = &outcome.waits;
    println!(
        "steady devices {} readings; acknowledged after ms: median {:.1}, p99 {:.1}, most {:.1}; longest silence {:.1}; broken {}",
        waits.each.len(),
        ms(waits.permille(500)),
        ms(waits.permille(990)),
        ms(waits.permille(1_000)),
        ms(waits.longest),
        waits.broken
    );
    println!("peak memory    {:.0} MiB", peak_kib as f64 / 1024.0);
}
