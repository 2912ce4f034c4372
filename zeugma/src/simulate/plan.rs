//! From the command's arguments to one order for each device; pure.

use std::time::Duration;

use zeugma_firmware::{batch, random::mixed, schedule::Pace};

use super::{
    Args, Format, Usage,
    city::{Town, town},
};

/// As many as one address has local ports for, with some to spare for reconnections.
const DEVICES_MAX: usize = 20_000;

/// One reading of each device in so long, unless `--rate` says otherwise.
const DEFAULT_EVERY_S: f64 = 5.0;

/// One report on itself for so many readings, but not more than one a minute.
const READINGS_PER_REPORT: f64 = 12.0;
const REPORT_EVERY_S_MIN: f64 = 60.0;

/// What a device measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Meter,
    Bus,
    CarPark,
    Hotspot,
}

/// Of five devices of a town.
const KINDS: [Kind; 5] = [Kind::Meter, Kind::Bus, Kind::CarPark, Kind::Meter, Kind::Hotspot];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Meter => "meter",
            Kind::Bus => "bus",
            Kind::CarPark => "carpark",
            Kind::Hotspot => "hotspot",
        }
    }
}

/// One device to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub town: Town,
    pub device: String,
    pub kind: Kind,
    pub seed: u64,
    pub format: batch::Format,
    pub pace: Pace,
    pub health_every: Duration,
    pub readings_max: Option<u64>,
}

/// The devices that `args` ask for; those with nothing to do are left out.
pub fn orders(args: &Args) -> Result<Vec<Order>, Usage> {
    check(args)?;
    let tenants = args.tenants.min(args.devices);
    let (pace, health_every) = pace(args.devices as f64, args.rate);
    let format = match args.format {
        Format::Avro => batch::Format::Avro,
        Format::Json => batch::Format::Json,
    };
    let towns: Vec<Town> = (0..tenants).map(town).collect();
    let mut numbers = vec![[0; 4]; tenants];
    let mut orders = Vec::with_capacity(args.devices);
    for i in 0..args.devices {
        let kind = KINDS[i / tenants % KINDS.len()];
        let number = &mut numbers[i % tenants][kind as usize];
        *number += 1;
        orders.push(Order {
            town: towns[i % tenants].clone(),
            device: format!("{}-{number:03}", kind.name()),
            kind,
            seed: mixed(args.seed ^ mixed(i as u64)),
            format,
            pace,
            health_every,
            readings_max: args.count.map(|count| share(count, args.devices as u64, i as u64)),
        });
    }
    orders.retain(|order| order.readings_max != Some(0));
    Ok(orders)
}

fn check(args: &Args) -> Result<(), Usage> {
    let usage = |text: String| Err(Usage(text));
    if args.devices == 0 || args.devices > DEVICES_MAX {
        return usage(format!("--devices {}: give a number from 1 to {DEVICES_MAX}", args.devices));
    }
    if args.tenants == 0 {
        return usage("--tenants 0: give at least 1".into());
    }
    if args.count == Some(0) {
        return usage("--count 0: give at least 1, or leave it out to go on until Ctrl-C".into());
    }
    if let Some(rate) = args.rate.filter(|rate| !(rate.is_finite() && *rate >= 0.0)) {
        return usage(format!("--rate {rate}: give readings per second in all, 0 for as many as possible"));
    }
    let port = args.mqtt.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    if !matches!(port, Some((host, Ok(1..))) if !host.is_empty()) {
        return usage(format!("--mqtt {}: give HOST:PORT, as in 127.0.0.1:1883", args.mqtt));
    }
    Ok(())
}

/// The distance of a device's readings and of its reports that give `rate` readings in all.
fn pace(devices: f64, rate: Option<f64>) -> (Pace, Duration) {
    // A reading in ten years is as good as none, and far from what the clocks can count.
    let every = |s: f64| Duration::from_secs_f64(s.min(315_360_000.0));
    let (every_s, report_s) = match rate {
        Some(0.0) => return (Pace::Eager, every(REPORT_EVERY_S_MIN)),
        None => (DEFAULT_EVERY_S, DEFAULT_EVERY_S * READINGS_PER_REPORT),
        Some(rate) => {
            let every_s = devices / rate * (1.0 + 1.0 / READINGS_PER_REPORT);
            if every_s * READINGS_PER_REPORT >= REPORT_EVERY_S_MIN {
                (every_s, every_s * READINGS_PER_REPORT)
            } else {
                (devices / (rate - devices / REPORT_EVERY_S_MIN), REPORT_EVERY_S_MIN)
            }
        }
    };
    let every_us = every(every_s).as_micros().max(1) as u64;
    (Pace::Every(embassy_time::Duration::from_micros(every_us)), every(report_s))
}

/// The part of `count` that falls to the device with number `i`.
fn share(count: u64, devices: u64, i: u64) -> u64 {
    count / devices + u64::from(i < count % devices)
}
