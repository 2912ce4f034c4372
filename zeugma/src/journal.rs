//! `zeugma journal inspect`: what lies in a data folder's journal, damaged or not, in use or not.

mod report;
mod show;

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;
use zeugma_journal::{Synced, inspect};

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
    let Command::Inspect(args) = args.command;
    tokio::task::spawn_blocking(move || inspect_to(&args, io::stdout().lock(), &shutdown)).await?
}

fn inspect_to(args: &InspectArgs, out: impl Write, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let folder = args.data.join("journal");
    if !folder.is_dir() {
        bail!("there is no journal in `{}`: name the folder with --data", args.data.display());
    }
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
        "the journal is damaged in {damages} {}; a start is refused until these files are moved away, keep them",
        if damages == 1 { "place" } else { "places" }
    )
}
