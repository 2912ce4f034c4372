//! Measures what ingest takes against mosquitto with a subscriber that does nothing but acknowledge.
//!
//! Both sides run on this machine, one after the other, alternating, under the same load generator, which
//! shares the machine with them. It prints ratios of one run; nothing here passes or fails by time.

mod lines;
mod measure;
mod sides;
mod subscriber;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};
use zeugma_tests::load::LoadArgs;

use lines::Line;
use measure::{Outcome, Way};

/// Measures ingest against mosquitto with a subscriber that only acknowledges; prints rates and ratios
#[derive(Debug, Parser)]
#[command(name = "bench-ingest", args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Readings of each run
    #[arg(long, default_value_t = 5_000_000)]
    readings: u64,
    #[command(flatten)]
    load: LoadArgs,
    /// How often each side runs
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Only this line of the table; may be given several times
    #[arg(long, value_enum)]
    only: Vec<Line>,
    /// How long readings may wait for a commit; part of what is measured
    #[arg(long, default_value = "2s")]
    commit_interval: String,
    /// Folder for journals and lakes, removed afterwards [default: the system's temporary one]
    #[arg(long)]
    data: Option<PathBuf>,
}

#[derive(Debug, Clone, Subcommand)]
enum Role {
    /// The peer's subscriber, in a process of its own
    #[command(hide = true)]
    Subscribe { broker: SocketAddr, count: u64 },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Role::Subscribe { broker, count }) = args.role {
        return subscriber::run(broker, count);
    }
    sides::check_binary()?;
    if let Some(folder) = &args.data {
        std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let lines = if args.only.is_empty() { Line::all() } else { args.only.clone() };
    println!(
        "{} readings a run, {} connections, {} in flight, committed every {} or 64 MiB, no limits of rate; {} cores, \
         shared with the load generator\n",
        args.readings,
        args.load.connections,
        args.load.in_flight,
        args.commit_interval,
        std::thread::available_parallelism().map_or(0, |cores| cores.get())
    );
    let outcomes = run_all(&lines, &args)?;
    println!();
    for line in &lines {
        line.print(&args, &outcomes)?;
    }
    Ok(())
}

/// Each round takes every way once, so that what else the machine does falls on all of them.
fn run_all(lines: &[Line], args: &Args) -> anyhow::Result<Vec<(Way, Outcome)>> {
    let mut ways: Vec<Way> = Vec::new();
    for way in lines.iter().flat_map(|line| line.ways(args)) {
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    lines::print_head();
    let mut outcomes = Vec::new();
    for _ in 0..args.rounds {
        for way in &ways {
            let outcome = measure::run(*way, args, args.readings, None)?;
            lines::print_outcome(&way.name(), &outcome);
            outcomes.push((*way, outcome));
        }
    }
    Ok(outcomes)
}
