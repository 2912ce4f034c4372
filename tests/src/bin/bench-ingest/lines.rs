//! The lines of the table: what is compared with what, and what is aimed at.

use clap::ValueEnum;
use zeugma_tests::load::Format;

use crate::{
    Args,
    measure::{self, Outcome, Way},
};

/// The largest share of the peak rate at which the latency is measured, and for how long.
const LATENCY_SHARE: f64 = 0.5;
const LATENCY_SECONDS: f64 = 20.0;

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Line {
    /// Avro at the door, against the subscriber
    DoorAvro,
    /// JSON at the door, against the subscriber
    DoorJson,
    /// Avro behind mosquitto, against the subscriber
    Broker,
    /// From publish to acknowledgement at half of the peak rate
    Latency,
    /// A million devices, against a thousand
    Devices,
    /// 332 tenants, against one
    Tenants,
    /// The last fifth of a run, against its first
    End,
    /// The most memory that ingest had
    Memory,
}

impl Line {
    /// All of them.
    pub fn all() -> Vec<Line> {
        Line::value_variants().to_vec()
    }

    /// What must run for it.
    pub fn ways(self, args: &Args) -> Vec<Way> {
        match self.compared(args) {
            Some((ours, theirs, _)) => vec![ours, theirs],
            None => vec![base(args)],
        }
    }

    /// Ours, what it is compared with, and the ratio aimed at.
    fn compared(self, args: &Args) -> Option<(Way, Way, f64)> {
        let door = |format, devices, tenants| Way::Door { format, devices, tenants };
        let subscriber = |format| Way::Subscriber { format };
        Some(match self {
            Line::DoorAvro => (base(args), subscriber(Format::Avro), 2.5),
            Line::DoorJson => (door(Format::Json, args.load.devices, 1), subscriber(Format::Json), 1.5),
            Line::Broker => (Way::Broker, subscriber(Format::Avro), 0.9),
            Line::Devices => (door(Format::Avro, 1_000_000, 1), base(args), 0.8),
            Line::Tenants => (door(Format::Avro, args.load.devices, 332), base(args), 0.95),
            Line::Latency | Line::End | Line::Memory => return None,
        })
    }

    /// Prints it from the outcomes of all rounds.
    pub fn print(self, args: &Args, outcomes: &[(Way, Outcome)]) -> anyhow::Result<()> {
        if let Some((ours, theirs, wanted)) = self.compared(args) {
            let rate = match self {
                Line::Devices | Line::Tenants => Outcome::visible_rate,
                _ => Outcome::rate,
            };
            let ratio = mean(outcomes, ours, rate) / mean(outcomes, theirs, rate);
            self.say(
                &format!("{ratio:.2} of {}", theirs.name()),
                &format!("at least {wanted}"),
                ratio >= wanted,
            );
            return Ok(());
        }
        let base = base(args);
        match self {
            Line::Latency => self.print_latency(args, mean(outcomes, base, Outcome::acknowledged_rate))?,
            Line::End => {
                let ratio = mean(outcomes, base, Outcome::end_to_start);
                self.say(&format!("{ratio:.2} of the first fifth"), "at least 0.9", ratio >= 0.9);
            }
            _ => {
                let mib = of(outcomes, base).map(|outcome| outcome.peak_mib).fold(0.0, f64::max);
                self.say(&format!("{mib:.0} MiB at most"), "below 600 MiB", mib < 600.0);
            }
        }
        Ok(())
    }

    fn print_latency(self, args: &Args, peak: f64) -> anyhow::Result<()> {
        let rate = peak * LATENCY_SHARE;
        let readings = args.readings.min((rate * LATENCY_SECONDS) as u64);
        let outcome = measure::run(base(args), args, readings, Some(rate))?;
        let reached = outcome.acknowledged_rate();
        let ms = |share| outcome.report.latency.quantile(share).as_secs_f64() * 1e3;
        let found = format!(
            "p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, max {:.1} ms at {reached:.0}/s",
            ms(0.5),
            ms(0.99),
            ms(0.999),
            outcome.report.latency.max().as_secs_f64() * 1e3,
        );
        print_outcome("at this rate", &outcome);
        self.say(&found, "p99 at most 20 ms", ms(0.99) <= 20.0);
        if reached < rate * 0.97 {
            println!(
                "           only {reached:.0}/s of {rate:.0}/s were reached: the latency is that of a full window"
            );
        }
        Ok(())
    }

    fn say(self, found: &str, wanted: &str, holds: bool) {
        let name = self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        println!("{name:<10} {found}; {wanted}: {}", if holds { "holds" } else { "MISSED" });
    }
}

/// What most lines are compared with: Avro, a thousand devices, one tenant.
fn base(args: &Args) -> Way {
    Way::Door { format: Format::Avro, devices: args.load.devices, tenants: 1 }
}

fn of(outcomes: &[(Way, Outcome)], way: Way) -> impl Iterator<Item = &Outcome> {
    outcomes.iter().filter(move |(found, _)| *found == way).map(|(_, outcome)| outcome)
}

fn mean(outcomes: &[(Way, Outcome)], way: Way, value: impl Fn(&Outcome) -> f64) -> f64 {
    let values: Vec<f64> = of(outcomes, way).map(value).collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// The names of the columns of the runs.
pub fn print_head() {
    println!(
        "{:<46} {:>9} {:>9} {:>9} {:>7} {:>8} {:>8} {:>6}",
        "one run", "acked/s", "visible/s", "commit/s", "MiB", "us each", "load us", "end"
    );
}

/// One run; `us each` is processor time for a reading, of the programs measured and of the generator.
pub fn print_outcome(name: &str, outcome: &Outcome) {
    let count = outcome.readings as f64;
    let rate = |time: std::time::Duration| format!("{:.0}", count / time.as_secs_f64());
    println!(
        "{name:<46} {:>9} {:>9} {:>9} {:>7.0} {:>8.2} {:>8.2} {:>6.2}",
        rate(outcome.report.elapsed),
        rate(outcome.visible),
        outcome.committed.map_or_else(|| "-".to_owned(), rate),
        outcome.peak_mib,
        outcome.used.as_secs_f64() * 1e6 / count,
        outcome.load_used.as_secs_f64() * 1e6 / count,
        outcome.end_to_start(),
    );
}
