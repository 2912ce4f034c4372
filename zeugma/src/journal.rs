//! `zeugma journal`: shows what lies in a data folder's journal, and mends one that is damaged.

mod report;
mod show;

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use fastrand::Rng;
use tokio_util::sync::CancellationToken;
use zeugma_journal::{Synced, inspect, mend};

use report::Report;

/// Look into the journal of a data folder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with a journal.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show what is in it: reads only, also beside a running program and where files are damaged
    Inspect(InspectArgs),
    /// Make a damaged journal one that starts again: damaged files are kept aside, what cannot be read is given up
    Mend(MendArgs),
}

/// Flags of `journal mend`.
#[derive(Debug, Clone, clap::Args)]
pub struct MendArgs {
    /// Folder that holds the journal, as given to `up` or `ingest`; no program may run on it
    #[arg(long, env = "ZEUGMA_DATA", value_name = "DIR", default_value = "zeugma-data")]
    pub data: PathBuf,
}

/// Flags of `journal inspect`.
#[derive(Debug, Clone, clap::Args)]
pub struct InspectArgs {
    /// Folder that holds the journal, as given to `up` or `ingest`
    #[arg(long, env = "ZEUGMA_DATA", value_name = "DIR", default_value = "zeugma-data")]
    pub data: PathBuf,
    /// A line for each record first: position, time, tenant, topic, length, and how its payload begins
    #[arg(long, env = "ZEUGMA_RECORDS")]
    pub records: bool,
    /// For programs: one JSON object on a line, with --records one for each record before it, payloads whole
    #[arg(long, env = "ZEUGMA_JSON")]
    pub json: bool,
}

/// Runs a command.
///
/// # Errors
/// Where there is no journal, and where it is damaged: after everything that can be shown was shown.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let work = move || match args.command {
        Command::Inspect(args) => inspect_to(&args, io::stdout().lock(), &shutdown),
        Command::Mend(args) => mend_to(&args, io::stdout().lock()),
    };
    tokio::task::spawn_blocking(work).await?
}

/// The folder of the journal in a data folder.
fn folder(data: &Path) -> anyhow::Result<PathBuf> {
    let folder = data.join("journal");
    if !folder.is_dir() {
        bail!("there is no journal in `{}`: name the folder with --data", data.display());
    }
    Ok(folder)
}

fn mend_to(args: &MendArgs, mut out: impl Write) -> anyhow::Result<()> {
    let mended = mend::mend(&folder(&args.data)?, &mut Rng::new()).context("cannot mend the journal")?;
    if mended.kept_aside.is_empty() {
        writeln!(out, "nothing is damaged")?;
    }
    for (first, last) in &mended.lost {
        writeln!(out, "given up: positions {first} to {last}")?;
    }
    for file in &mended.kept_aside {
        writeln!(out, "kept as it was: {}", file.display())?;
    }
    Ok(())
}

fn inspect_to(args: &InspectArgs, out: impl Write, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let folder = folder(&args.data)?;
    let mut out = BufWriter::new(out);
    let mut report = Report::default();
    let mut written = Ok(());
    let each = |block: &Synced| {
        report.add(block);
        if args.records {
            written = show::records(&mut out, block, args.json);
        }
        written.is_ok() && !shutdown.is_cancelled()
    };
    let segments = inspect::inspect(&folder, each).context("cannot read the journal")?;
    if shutdown.is_cancelled() {
        bail!("stopped before the end of the journal");
    }
    report.finish(source(&args.data), segments);
    let written = written.and_then(|()| match args.json {
        true => show::json(&mut out, &report),
        false => show::text_report(&mut out, &report),
    });
    match written.and_then(|()| out.flush()) {
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.context("cannot write")?,
    }
    verdict(&report)
}

/// Whose positions these are, where the folder says so.
fn source(data: &Path) -> Option<String> {
    std::fs::read_to_string(data.join("source")).ok().map(|text| text.trim().to_owned())
}

fn verdict(report: &Report) -> anyhow::Result<()> {
    let damages = report.damages().count();
    if damages == 0 {
        return Ok(());
    }
    bail!(
        "the journal is damaged in {damages} {}, and a start is refused: restore these files, or let \
         `zeugma journal mend` keep them aside and go on without what cannot be read",
        if damages == 1 { "place" } else { "places" }
    )
}
