//! The commands and their flags; each flag has a default, a variable `ZEUGMA_<FLAG>`, and a key of the
//! same name in `--config FILE.toml`.

use std::{ffi::OsString, path::PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use tokio_util::sync::CancellationToken;

use crate::{
    Usage, compact, config_file, dead_letters, demo, device, erase, journal, replay, retention, say, server,
    simulate, sql,
};

/// Joins every sensor of a city into tables that anybody entitled can ask.
#[derive(Debug, Parser)]
#[command(
    name = "zeugma",
    version,
    after_help = "Try `zeugma demo` first: it needs nothing but this program."
)]
pub struct Cli {
    /// TOML file with defaults for any flag, by its name
    #[arg(long, env = "ZEUGMA_CONFIG", value_name = "FILE.toml", global = true)]
    pub config: Option<PathBuf>,
    /// How log lines are written to stderr: for people, or as one JSON object a line
    #[arg(long, env = "ZEUGMA_LOG_FORMAT", value_name = "FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line, its fields beside the message.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A running city to look at: everything in one process, with simulated devices in three towns
    Demo(demo::Args),
    /// Everything in one process: MQTT listener, ingest, query, pages
    Up(server::UpArgs),
    /// As `up`, on another HTTP port, for `query` processes beside it; one for each lake
    Ingest(server::IngestArgs),
    /// The answering half alone; as many as you like for a lake
    Query(server::QueryArgs),
    /// Virtual devices that publish readings
    Simulate(simulate::Args),
    /// Publish the rows of CSV, NDJSON or Parquet files as readings
    Replay(replay::Args),
    /// Ask a running server in SQL
    Sql(sql::Args),
    /// What was refused and kept: count it, or put it through acceptance again
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Merge the files of dates that belong together, up to 64, into one sorted run
    ///
    /// A running writer does what is worth its price by itself; this merges all that is there when it begins, as
    /// before an export or a measurement. It can be stopped: what is merged stays merged.
    Compact(compact::Args),
    /// Erase everything of a device or a tenant that came up to now, and print the proof
    ///
    /// Readings, dead letters, newest readings, older versions and the journal; what is outside (backups, buckets
    /// that keep old objects, brokers) is named in the proof. What is begun is finished, also after a stop.
    Erase(erase::Args),
    /// What was erased; the proof of it
    Erasures(erase::ProofArgs),
    /// Devices and tenants from which nothing is taken any more
    #[command(subcommand)]
    Blocked(erase::Blocked),
    /// How long readings are kept
    #[command(subcommand)]
    Retention(retention::Command),
    /// Give a device its place: whose it is, its id, its broker
    #[command(subcommand)]
    Device(device::Command),
    /// Look into the journal of a data folder
    Journal(journal::Args),
}

/// Why there is nothing to run.
#[derive(Debug)]
pub enum Ended {
    /// Help or version was asked for.
    Help(String),
    /// The call was wrong.
    Wrong(Usage),
}

/// Reads the command line, the environment and the configuration file.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Ended> {
    let args: Vec<OsString> = args.into_iter().collect();
    let command = config_file::with_defaults(Cli::command(), &args).map_err(Ended::Wrong)?;
    let asks = args.iter().any(|arg| arg == "sql");
    let matches = command.try_get_matches_from(args);
    match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => Ok(cli),
        Err(error) => Err(match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ended::Help(error.render().to_string()),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Ended::Wrong(Usage(
                "say what to do: demo, up, ingest, query, simulate, replay, sql, dead-letters, compact, erase, \
                 erasures, blocked, retention, device or journal; see --help"
                    .into(),
            )),
            ErrorKind::UnknownArgument if asks => Ended::Wrong(Usage(format!(
                "{}; a question is one argument, so put it into quotes: zeugma sql \"SELECT 1\"",
                one_line(&error.render().to_string()).0
            ))),
            _ => Ended::Wrong(one_line(&error.render().to_string())),
        }),
    }
}

/// Runs a command to its end.
pub async fn run(command: Command, shutdown: CancellationToken) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => demo::run(args, shutdown).await,
        Command::Up(args) => server::run(server::Settings::up(&args)?, shutdown).await,
        Command::Ingest(args) => server::run(server::Settings::ingest(&args)?, shutdown).await,
        Command::Query(args) => server::run(server::Settings::query(&args)?, shutdown).await,
        Command::Simulate(args) => Ok(say::line(&simulate::run(&args, shutdown).await?.to_string())?),
        Command::Replay(args) => replay::run(&args, shutdown).await.map(drop),
        Command::Sql(args) => sql::run(&args).await,
        Command::DeadLetters(command) => dead_letters::run(&command, shutdown).await,
        Command::Compact(args) => compact::run(&args, shutdown).await,
        Command::Erase(args) => erase::run(&args, shutdown).await,
        Command::Erasures(args) => erase::proofs(&args).await,
        Command::Blocked(command) => erase::blocked(&command).await,
        Command::Retention(command) => retention::run(&command).await,
        Command::Device(command) => device::run(&command).await,
        Command::Journal(args) => journal::run(args, shutdown).await,
    }
}

/// The parser's message without its usage text, on one line.
fn one_line(message: &str) -> Usage {
    let message = message.split("\n\nUsage:").next().unwrap_or(message);
    let message = message.split("\n\nFor more information").next().unwrap_or(message);
    let words: Vec<&str> = message.split_whitespace().collect();
    let message = words.join(" ");
    Usage(format!("{}; see --help", message.strip_prefix("error: ").unwrap_or(&message)))
}

#[cfg(test)]
mod tests;
