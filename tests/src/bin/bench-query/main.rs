//! Measures questions against DuckDB and ClickHouse, on the same rows, on this machine.
//!
//! It makes rows from a seed and puts them into a lake by our own commits and compactions, not through MQTT; the
//! peers load the same files into tables of their own, sorted by tenant, device and time. Answers must be equal
//! before a time counts. It prints ratios of one run; nothing here passes or fails by time.

mod answer;
mod country;
mod database;
mod disk;
mod fair;
mod growth;
mod keep;
mod ours;
mod question;
mod race;
mod rows;
mod trucks;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures questions against DuckDB and ClickHouse; prints times and ratios
#[derive(Debug, Parser)]
#[command(name = "bench-query")]
pub struct Args {
    /// Only this part; may be given several times
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Only questions whose name contains this
    #[arg(long)]
    question: Option<String>,
    /// Readings of the country, over a year in 332 tenants
    #[arg(long, default_value_t = 150_000_000)]
    rows: u64,
    /// Seconds from one entry of a truck to its next
    #[arg(long, default_value_t = 60)]
    truck_interval_s: u32,
    /// How often each question is asked when everything is warm; the median counts
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seed of all rows
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ours alone, without peers
    #[arg(long)]
    alone: bool,
    /// Folder in which data sets and peers are kept between runs
    #[arg(long, default_value = "target/bench-query")]
    data: PathBuf,
}

/// A part of what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A year of a country: vehicles, meters, car parks
    Country,
    /// Trucks, as the Time Series Benchmark Suite has them
    Trucks,
    /// Bytes a reading takes, of real buses and meters
    Disk,
    /// Questions about one tenant, of a tenth, a third and all of the country
    Growth,
    /// Short questions and ingest, beside long questions about the whole country
    Fair,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if args.only.is_empty() {
        args.only = Part::value_variants().to_vec();
    }
    std::fs::create_dir_all(&args.data)?;
    args.data = args.data.canonicalize()?;
    if !args.alone {
        database::install(&args.data)?;
    }
    for part in args.only.clone() {
        match part {
            Part::Country => country::measure(&args).await?,
            Part::Trucks => trucks::measure(&args).await?,
            Part::Disk => disk::measure(&args).await?,
            Part::Growth => growth::measure(&args).await?,
            Part::Fair => fair::measure(&args).await?,
        }
    }
    Ok(())
}
