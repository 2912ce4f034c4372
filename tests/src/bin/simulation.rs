//! Replays seeds of the simulation, and prints what happened.

use std::process::ExitCode;

use clap::Parser;
use zeugma_tests::simulation::run;

/// A world of failures, from a seed: nothing acknowledged may be lost, nothing may be there twice
#[derive(Parser)]
struct Args {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds, one after the other
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Steps of each
    #[arg(long, default_value_t = 120)]
    steps: usize,
    /// Print every step
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    for seed in args.seed..args.seed + args.seeds {
        match run(seed, args.steps) {
            Ok(trace) if args.trace => println!("{}", trace.join("\n")),
            Ok(trace) => println!("seed {seed}: {}", trace.last().map_or("", |line| line.trim())),
            Err(wrong) => {
                eprintln!("{wrong}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
