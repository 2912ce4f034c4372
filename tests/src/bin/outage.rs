//! Takes the lake away while devices publish as fast as they are acknowledged, gives it back, and looks whether
//! everything is found: how much memory the real program needs meanwhile, and how long it takes to catch up.
//!
//! `cargo run --release -p zeugma-tests --bin outage -- --readings 36000000`
//! is an hour at 10,000 readings a second. Exit code 1 where anything is missing, or memory passes its limit.

use std::{
    fs::{self, File},
    io::IsTerminal,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Parser;
use zeugma_tests::{
    Program,
    ask::Asker,
    check,
    load::{Crowd, Format, Load, LoadArgs, Plan, Report},
    process,
    program::free_port,
};

/// Acknowledged and committed before the lake goes.
const BEFORE: u64 = 100_000;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A start, and the first commit, may take this long.
const START_MAX: Duration = Duration::from_secs(60);

/// How long the catching up may take, and how much longer for each million readings.
const CATCH_UP_MIN: Duration = Duration::from_secs(60);
const CATCH_UP_EACH: Duration = Duration::from_secs(30);

/// How long the lake is away, in readings.
#[derive(Debug, Parser)]
struct Args {
    /// Readings in all
    #[arg(long, default_value_t = 36_000_000)]
    readings: u64,
    /// The most memory that ingest may have, MiB
    #[arg(long, default_value_t = 1_536.0)]
    memory_max_mib: f64,
    #[command(flatten)]
    load: LoadArgs,
    /// Tenants in all
    #[arg(long, default_value_t = 20)]
    tenants: u64,
    /// Folder for journal, sealed files and lake, removed afterwards [default: the system's temporary one]
    #[arg(long)]
    data: Option<PathBuf>,
}

/// A local lake that can be away: a file stands where its folder was.
struct Switch {
    lake: PathBuf,
}

impl Switch {
    fn kept(&self) -> PathBuf {
        self.lake.with_extension("away")
    }

    fn off(&self) -> anyhow::Result<()> {
        fs::rename(&self.lake, self.kept())?;
        File::create(&self.lake)?;
        Ok(())
    }

    fn on(&self) -> anyhow::Result<()> {
        fs::remove_file(&self.lake)?;
        fs::rename(self.kept(), &self.lake)?;
        Ok(())
    }
}

/// The program, and what it stands between.
struct Stage {
    program: Program,
    mqtt: SocketAddr,
    asker: Asker,
    switch: Switch,
    log: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let folder = match &args.data {
        Some(below) => tempfile::tempdir_in(below)?,
        None => tempfile::tempdir()?,
    };
    let stage = Stage::start(folder.path())?;
    let good = stage.play(&args).with_context(|| fs::read_to_string(&stage.log).unwrap_or_default())?;
    ensure!(stage.program.interrupt().success(), "zeugma did not stop in order");
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Stage {
    fn start(folder: &Path) -> anyhow::Result<Stage> {
        let path = |name: &str| folder.join(name).display().to_string();
        let (data, lake, mqtt, http) = (path("data"), path("lake"), free_port(), free_port());
        let addrs = [mqtt, http].map(|addr| addr.to_string());
        let args = ["ingest", "--data", &data, "--lake", &lake, "--mqtt", &addrs[0], "--http", &addrs[1]];
        let args = [&args[..], &["--commit-interval", "2s"]].concat();
        let log = folder.join("log");
        let program = Program::spawn(&args, File::create(&log)?.into());
        let (asker, switch) = (Asker::new(http), Switch { lake: folder.join("lake") });
        Ok(Stage { program, mqtt, asker, switch, log })
    }

    /// Plays it to the end; whether all is as it must be.
    fn play(&self, args: &Args) -> anyhow::Result<bool> {
        self.asker.until("zeugma to be ready", START_MAX, |asker| asker.get("/readyz").map(|_| true))?;
        let Args { load: LoadArgs { connections, devices, in_flight }, tenants, readings, .. } = *args;
        let crowd = Crowd { connections, devices, tenants, seed: 1 };
        let (format, readings_max) = (Format::Avro, Some(readings));
        let plan = Plan {
            addr: self.mqtt,
            crowd,
            format,
            in_flight,
            rate: None,
            readings: readings_max,
            reconnects: false,
        };
        let report = self.publish_without_a_lake(Load::start(plan)?, readings)?;
        let mib = self.catch_up(readings)?;
        let found = check::check(&self.asker, &crowd, &report)?;
        println!("found        {found:?}");
        if mib > args.memory_max_mib {
            println!("MISSED       memory may be {:.0} MiB", args.memory_max_mib);
        }
        Ok(found.is_good() && mib <= args.memory_max_mib)
    }

    fn publish_without_a_lake(&self, load: Load, readings: u64) -> anyhow::Result<Report> {
        self.asker.until("the first commit", START_MAX, |_| Ok(self.committed()? >= BEFORE))?;
        self.switch.off()?;
        let away = Instant::now();
        // A commit that was under way may have come through.
        std::thread::sleep(LOOK);
        let before = self.committed()?;
        while !load.is_over() {
            std::thread::sleep(LOOK);
            self.show(load.acknowledged(), readings);
        }
        let report = load.finish()?;
        ensure!(self.committed()? == before, "something was committed: the lake was not away");
        println!(
            "away         {:.0} s, {before} committed before, {} acknowledged at {:.0}/s, memory at most {:.0} MiB",
            away.elapsed().as_secs_f64(),
            report.acknowledged(),
            readings as f64 / report.elapsed.as_secs_f64(),
            self.peak_mib()?,
        );
        Ok(report)
    }

    /// Gives the lake back, and answers the most memory there was when all is in it.
    fn catch_up(&self, readings: u64) -> anyhow::Result<f64> {
        self.switch.on()?;
        let back = Instant::now();
        let patience = CATCH_UP_MIN + CATCH_UP_EACH * (readings / 1_000_000) as u32;
        self.asker.until("all readings to be committed", patience, |_| Ok(self.committed()? == readings))?;
        let mib = self.peak_mib()?;
        let took = back.elapsed().as_secs_f64();
        println!("back         committed after {took:.0} s, memory at most {mib:.0} MiB");
        Ok(mib)
    }

    fn committed(&self) -> anyhow::Result<u64> {
        Ok(self.asker.metric("zeugma_committed_total{domain=\"fleet\"}")? as u64)
    }

    fn peak_mib(&self) -> anyhow::Result<f64> {
        process::peak_mib(self.program.pid()).context("the program is gone")
    }

    /// One line that is written over, on a terminal.
    fn show(&self, acknowledged: u64, of: u64) {
        if std::io::stderr().is_terminal() {
            let mib = |name: &str| self.asker.metric(name).unwrap_or(f64::NAN) / f64::from(1 << 20);
            eprint!(
                "\r{acknowledged} of {of}; journal {:.0} MiB, sealed {:.0} MiB, memory at most {:.0} MiB ",
                mib("zeugma_journal_bytes "),
                mib("zeugma_sealed_bytes "),
                self.peak_mib().unwrap_or(f64::NAN),
            );
        }
    }
}
