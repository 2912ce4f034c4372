//! A part: so many kills of one data folder while devices publish, then the comparison.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, ensure};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use zeugma_tests::{
    ask::Asker,
    check::{self, Found},
    load::{Crowd, Format, Load, Plan, Report},
};

use crate::{
    Args,
    aim::{Aim, below},
    victim::{Place, Victim},
};

/// What a part came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub part: u64,
    pub kills: BTreeMap<Aim, u64>,
    /// From the start of the process to the end of the replay, seconds; of the last start, with all there is.
    pub start_s: f64,
    pub found: Found,
}

/// Runs a part in a folder that is made anew.
pub fn run(part: u64, kills: u64, args: &Args, folder: &Path) -> anyhow::Result<Outcome> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    let mut chance = Rng::with_seed(Rng::with_seed(args.seed).u64(..) ^ part);
    let place = Place::new(folder, &mut chance)?;
    let crowd = Crowd {
        connections: args.connections,
        devices: args.devices,
        tenants: args.tenants,
        seed: args.seed.wrapping_add(part),
    };
    let load = Load::start(Plan {
        addr: place.mqtt,
        crowd,
        format: Format::Avro,
        in_flight: args.in_flight,
        rate: Some(args.rate),
        readings: None,
        reconnects: true,
    })?;
    let mut hits = BTreeMap::new();
    let mut start = Duration::from_millis(300);
    for _ in 0..kills {
        let hit = strike(&mut chance, &place, args.rate, &mut start)?;
        *hits.entry(hit).or_default() += 1;
        ensure!(!load.is_over(), "the load generator ended: {:?}", load.stop().err());
    }
    // Stopped while the victim is dead, so that some readings are sent and nobody knows how far they came.
    let report = load.stop()?;
    let (found, start) = compare(&place, &crowd, &report)?;
    Ok(Outcome { part, kills: hits, start_s: start.as_secs_f64(), found })
}

/// One life of the victim, from its start to its kill; answers what was hit.
fn strike(chance: &mut Rng, place: &Place, rate: f64, start: &mut Duration) -> anyhow::Result<Aim> {
    let aim = Aim::choose(chance, place, rate);
    let victim = Victim::start(place)?;
    let hit = match aim {
        Aim::Start => {
            std::thread::sleep(below(chance, *start));
            aim
        }
        Aim::Replay => {
            *start = victim.open()?;
            std::thread::sleep(Aim::after_replay(chance));
            aim
        }
        _ => {
            *start = victim.open()?;
            victim.serving()?;
            aim.wait(chance, place)
        }
    };
    victim.kill()?;
    Ok(hit)
}

/// Compares twice: after the replay, with rows in the tail, and again when all is in the lake.
fn compare(place: &Place, crowd: &Crowd, report: &Report) -> anyhow::Result<(Found, Duration)> {
    let asker = Asker::new(place.http);
    let victim = Victim::start(place)?;
    let start = victim.open()?;
    victim.serving()?;
    let found = check::check(&asker, crowd, report).context("the comparison after the kills")?;
    victim.stop()?;
    if !found.is_good() {
        return Ok((found, start));
    }
    let victim = Victim::start(place)?;
    victim.serving()?;
    let again = check::check(&asker, crowd, report).context("the comparison after a stop in order")?;
    victim.stop()?;
    ensure!(!again.is_good() || again == found, "a stop in order changed the table: {found:?}, {again:?}");
    Ok((again, start))
}
