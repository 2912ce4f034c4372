//! Kills the real `zeugma ingest` again and again while devices publish, and looks whether anything that
//! was acknowledged is missing, or anything is there twice.

mod aim;
mod part;
mod victim;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context;
use clap::Parser;
use serde::{Deserialize, Serialize};
use zeugma_tests::check::Found;

use aim::Aim;
use part::Outcome;

/// Kills `zeugma ingest` while devices publish; every acknowledged reading must be found exactly once
#[derive(Debug, Parser)]
#[command(name = "crash")]
pub struct Args {
    /// How often it is killed in all
    #[arg(long, default_value_t = 25)]
    kills: u64,
    /// What chance depends on
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kills of one data folder, before everything is compared and a new one is begun
    #[arg(long, default_value_t = 50)]
    part_kills: u64,
    /// Number of the first part [default: the one after those that --data remembers]
    #[arg(long)]
    from_part: Option<u64>,
    /// Readings a second in all
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// Folder of the data and of what the parts came to; kept [default: a temporary one, kept after a failure]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Keep the data of good parts too
    #[arg(long)]
    keep: bool,
    /// Connections of the devices
    #[arg(long, default_value_t = 20)]
    connections: u64,
    /// Publishes of one connection that may wait for their acknowledgement
    #[arg(long, default_value_t = 200)]
    in_flight: u64,
    /// Devices in all
    #[arg(long, default_value_t = 200)]
    devices: u64,
    /// Tenants in all
    #[arg(long, default_value_t = 4)]
    tenants: u64,
}

/// What `--data` remembers of the parts that were run there.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    seed: u64,
    parts: Vec<Outcome>,
}

impl State {
    fn path(folder: &Path) -> PathBuf {
        folder.join("crash.json")
    }

    /// What was remembered of this seed.
    fn read(folder: &Path, seed: u64) -> anyhow::Result<State> {
        let new = State { seed, parts: Vec::new() };
        let path = Self::path(folder);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(new),
            read => {
                let state: State =
                    serde_json::from_slice(&read?).with_context(|| path.display().to_string())?;
                Ok(if state.seed == seed { state } else { new })
            }
        }
    }

    /// Remembers one more part; the same again takes its place.
    fn add(&mut self, folder: &Path, outcome: Outcome) -> anyhow::Result<()> {
        self.parts.retain(|part| part.part != outcome.part);
        self.parts.push(outcome);
        self.parts.sort_by_key(|part| part.part);
        std::fs::write(Self::path(folder), serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    anyhow::ensure!(args.part_kills > 0 && args.rate > 0.0, "--part-kills and --rate must be above zero");
    let folder = match &args.data {
        Some(folder) => folder.clone(),
        None => tempfile::tempdir()?.keep(),
    };
    std::fs::create_dir_all(&folder)?;
    let mut state = State::read(&folder, args.seed)?;
    let mut part = args.from_part.unwrap_or_else(|| state.parts.last().map_or(1, |part| part.part + 1));
    let mut kills_left = args.kills;
    let (mut ours, began) = (Vec::new(), Instant::now());
    while kills_left > 0 {
        let kills = kills_left.min(args.part_kills);
        let below = folder.join(format!("part-{part}"));
        let outcome = part::run(part, kills, &args, &below).with_context(|| {
            format!("seed {}, part {part}; its data is in {}", args.seed, below.display())
        })?;
        println!("{}", describe(&format!("part {part}"), args.seed, &outcome.kills, &outcome.found));
        println!("  last start {:.2} s, {:.0} s so far", outcome.start_s, began.elapsed().as_secs_f64());
        state.add(&folder, outcome.clone())?;
        if !outcome.found.is_good() {
            println!("  its data is in {}", below.display());
            return Ok(ExitCode::FAILURE);
        }
        if !args.keep {
            std::fs::remove_dir_all(&below)?;
        }
        ours.push(outcome);
        kills_left -= kills;
        part += 1;
    }
    report("this run", args.seed, &ours);
    if state.parts.len() > ours.len() {
        report("all parts", args.seed, &state.parts);
    }
    if args.data.is_none() && !args.keep {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn report(what: &str, seed: u64, parts: &[Outcome]) {
    let (mut kills, mut found) = (BTreeMap::new(), Found::default());
    for part in parts {
        part.kills.iter().for_each(|(aim, count)| *kills.entry(*aim).or_default() += count);
        found.add(&part.found);
    }
    println!("{}", describe(what, seed, &kills, &found));
}

fn describe(what: &str, seed: u64, kills: &BTreeMap<Aim, u64>, found: &Found) -> String {
    let aims: Vec<String> =
        kills.iter().map(|(aim, count)| format!("{count} {aim:?}").to_lowercase()).collect();
    let Found { sent, acknowledged, found, lost, twice, strange, changed, dead } = found;
    format!(
        "{what}: seed {seed}, {} kills ({}), {sent} sent, {acknowledged} acknowledged, {found} found, \
         {lost} lost, {twice} twice, {strange} never sent, {changed} changed, {dead} dead letters",
        kills.values().sum::<u64>(),
        aims.join(", "),
    )
}
