//! `zeugma erase`: everything of a device or tenant goes, and `zeugma erasures` has the proof; `zeugma blocked` says
//! from whom nothing is taken any more.

use anyhow::bail;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{say, writer::Writer};

/// Whose readings go.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("whose").required(true))]
pub struct Args {
    /// The tenant
    #[arg(long, env = "ZEUGMA_TENANT", value_name = "TENANT")]
    pub tenant: String,
    /// One of its devices
    #[arg(long, env = "ZEUGMA_DEVICE", value_name = "DEVICE", group = "whose")]
    pub device: Option<String>,
    /// Everything the tenant has
    #[arg(long, group = "whose")]
    pub all_devices: bool,
    /// Take nothing from it any more, until `zeugma blocked lift`
    #[arg(long, env = "ZEUGMA_AND_BLOCK")]
    pub and_block: bool,
    /// Which server.
    #[command(flatten)]
    pub writer: Writer,
}

/// Which erasure.
#[derive(Debug, clap::Args)]
pub struct ProofArgs {
    /// The proof of this one alone, as JSON
    pub id: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub writer: Writer,
}

/// What to do with those of whom nothing is taken.
#[derive(Debug, clap::Subcommand)]
pub enum Blocked {
    /// Who is blocked
    List(Writer),
    /// Take readings again
    Lift(LiftArgs),
}

/// Who is blocked no more.
#[derive(Debug, clap::Args)]
pub struct LiftArgs {
    /// The tenant
    #[arg(long, env = "ZEUGMA_TENANT", value_name = "TENANT")]
    pub tenant: String,
    /// Its device, where not all of the tenant is blocked
    #[arg(long, env = "ZEUGMA_DEVICE", value_name = "DEVICE")]
    pub device: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub writer: Writer,
}

/// Erases, and prints the proof as far as it goes by then.
pub async fn run(args: &Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        done = erase(args) => done,
        () = shutdown.cancelled() => {
            bail!("not waited for any more; what is begun the server finishes: see zeugma erasures")
        }
    }
}

async fn erase(args: &Args) -> anyhow::Result<()> {
    const BROKEN: &str = "the answer broke off; what is begun the server finishes: see zeugma erasures";
    let body = json!({
        "tenant": args.tenant, "device": args.device, "all_devices": args.all_devices,
        "and_block": args.and_block,
    });
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let step = |report: &Value| bar.set_message(report["step"].as_str().unwrap_or_default().to_owned());
    let last = args.writer.reports("erase", &body).await?.last(BROKEN, step).await;
    bar.finish_and_clear();
    let erasure = &last?["erasure"];
    say::line(&format!("{erasure:#}"))?;
    eprintln!(
        "no question finds any of it; old files and versions are deleted in a quarter of an hour: \
         zeugma erasures {}",
        erasure["id"].as_str().unwrap_or_default()
    );
    Ok(())
}

/// Prints all erasures, or the proof of one.
pub async fn proofs(args: &ProofArgs) -> anyhow::Result<()> {
    let Value::Array(erasures) = args.writer.get("erasures").await? else {
        bail!("the server's answer is no list of erasures")
    };
    let Some(id) = &args.id else {
        let lines: Vec<String> = erasures.iter().map(line).collect();
        let none = || "nothing was ever erased".to_owned();
        return Ok(say::line(&if lines.is_empty() { none() } else { lines.join("\n") })?);
    };
    match erasures.iter().find(|erasure| erasure["id"] == **id) {
        Some(erasure) => Ok(say::line(&format!("{erasure:#}"))?),
        None => bail!("there is no erasure {id}: zeugma erasures has all"),
    }
}

/// Prints or changes who is blocked.
pub async fn blocked(command: &Blocked) -> anyhow::Result<()> {
    match command {
        Blocked::List(writer) => {
            let blocked = writer.get("blocked").await?;
            let lines: Vec<String> = blocked.as_array().into_iter().flatten().map(whose).collect();
            Ok(say::line(&if lines.is_empty() { "nobody is blocked".to_owned() } else { lines.join("\n") })?)
        }
        Blocked::Lift(LiftArgs { tenant, device, writer }) => {
            let body = json!({ "tenant": tenant, "device": device });
            let lifted = writer.post("blocked/lift", &body).await?;
            Ok(say::line(&format!("taken again: {}", whose(&lifted["lifted"])))?)
        }
    }
}

fn whose(subject: &Value) -> String {
    let tenant = subject["tenant"].as_str().unwrap_or_default();
    match subject["device"].as_str() {
        Some(device) => format!("{tenant} {device}"),
        None => format!("{tenant}, all devices"),
    }
}

fn line(erasure: &Value) -> String {
    let removals =
        erasure["tables"].as_array().into_iter().flatten().flat_map(|table| table["removals"].as_array());
    let rows: u64 = removals.flatten().filter_map(|removal| removal["rows"].as_u64()).sum();
    let text = |key: &str| erasure[key].as_str();
    let state = match (text("rows_gone_at"), text("finished_at")) {
        (_, Some(at)) => format!("finished {at}"),
        (Some(at), None) => format!("not found since {at}, old files follow"),
        (None, None) => "under way".to_owned(),
    };
    format!("{}  {}  {rows} rows  {state}", text("id").unwrap_or_default(), whose(erasure))
}
