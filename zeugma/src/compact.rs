//! `zeugma compact`: the files of dates that belong together become one sorted run, now and whatever it costs.

use anyhow::bail;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use zeugma_lake::{Lake, compact::Progress};

use crate::{say, server, writer::Writer};

/// Which tables, and where.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One table alone, as fleet
    pub table: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub writer: Writer,
    /// A lake on which no server writes: a path, file:// or s3://; then no server is asked
    #[arg(long, env = "ZEUGMA_IDLE_LAKE", value_name = "URL")]
    pub idle_lake: Option<String>,
}

/// Compacts, with a progress bar on a terminal, and says what was done.
pub async fn run(args: &Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let work = async {
        match &args.idle_lake {
            Some(lake) => alone(lake, args.table.as_deref()).await,
            None => ask(args).await,
        }
    };
    tokio::select! {
        done = work => done,
        () = shutdown.cancelled() => bail!("stopped; what is merged stays merged, and the same call goes on"),
    }
}

async fn alone(lake: &str, table: Option<&str>) -> anyhow::Result<()> {
    let lake = Lake::open(lake).await?;
    let bar = bar();
    let report = |progress: &Progress| show(&bar, &serde_json::to_value(progress).unwrap_or_default());
    let done = zeugma_ingest::compact_alone(&lake, table, server::clock(), report).await?;
    bar.finish_and_clear();
    Ok(say::line(&summary(&serde_json::to_value(done)?))?)
}

async fn ask(args: &Args) -> anyhow::Result<()> {
    const BROKEN: &str = "the answer broke off; what is merged stays merged, and the same call goes on";
    let reports = args.writer.reports("compact", &serde_json::json!({ "table": args.table })).await?;
    let bar = bar();
    let last = reports.last(BROKEN, |report| show(&bar, report)).await;
    bar.finish_and_clear();
    Ok(say::line(&summary(&last?))?)
}

fn summary(done: &Value) -> String {
    let number = |key: &str| done[key].as_u64().unwrap_or_default();
    match number("files_before") {
        0 => "nothing to do: all dates that belong together are one run already".to_owned(),
        before => format!("{before} files became {}, of {} rows", number("files_after"), number("rows")),
    }
}

fn show(bar: &ProgressBar, report: &Value) {
    bar.set_length(report["rows_planned"].as_u64().unwrap_or_default());
    bar.set_position(report["rows"].as_u64().unwrap_or_default());
    bar.set_message(report["table"].as_str().unwrap_or_default().to_owned());
}

/// A bar on stderr where that is a terminal, otherwise nothing.
fn bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:32} {human_pos}/{human_len} rows, {msg}, {per_sec}, {eta} left")
            .expect("the template is well-formed");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}
