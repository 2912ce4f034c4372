//! `zeugma sql "…"`: asks a running server, and prints its answer.

use anyhow::{Context, bail};
use arrow::{ipc::reader::StreamReader, util::pretty::pretty_format_batches_with_schema};

use crate::{Usage, say};

/// Ask a running server in SQL.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The question, as "SELECT * FROM fleet LIMIT 5"
    pub sql: String,
    /// The server
    #[arg(long, env = "ZEUGMA_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Who asks; not needed on this machine's own addresses
    #[arg(long, env = "ZEUGMA_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// How the answer is printed
    #[arg(long, env = "ZEUGMA_FORMAT", value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// With a header line
    Csv,
    /// Columns and rows
    Json,
}

/// Asks, and prints to standard output.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let url = format!("{}/api/v1/sql", args.url.trim_end_matches('/'));
    let accept = match args.format {
        Format::Table => "application/vnd.apache.arrow.stream",
        Format::Csv => "text/csv",
        Format::Json => "application/json",
    };
    let answer = post(&url, args.token.as_deref(), accept, &serde_json::json!({ "sql": args.sql })).await?;
    let bytes = answer.bytes().await.context("the answer broke off")?;
    match args.format {
        Format::Table => {
            let reader =
                StreamReader::try_new(bytes.as_ref(), None).context("the answer is no Arrow stream")?;
            let columns = reader.schema();
            let batches = reader.collect::<Result<Vec<_>, _>>().context("the answer broke off")?;
            let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
            let table = pretty_format_batches_with_schema(columns, &batches)?;
            say::line(&format!("{table}\n{rows} {}", if rows == 1 { "row" } else { "rows" }))?;
        }
        Format::Csv | Format::Json => say::bytes(&bytes)?,
    }
    Ok(())
}

/// Asks a server, whose answer begins well.
///
/// # Errors
/// A sentence that says what to do where nobody answers, or what the server says is wrong.
pub(crate) async fn post(
    url: &str,
    token: Option<&str>,
    accept: &str,
    body: &serde_json::Value,
) -> anyhow::Result<reqwest::Response> {
    let request =
        reqwest::Client::new().post(url).header("accept", accept).header("content-type", "application/json");
    send(request.body(body.to_string()), url, token).await
}

/// As [`post`], for what only has to be read.
pub(crate) async fn get(url: &str, token: Option<&str>) -> anyhow::Result<reqwest::Response> {
    send(reqwest::Client::new().get(url), url, token).await
}

async fn send(
    request: reqwest::RequestBuilder,
    url: &str,
    token: Option<&str>,
) -> anyhow::Result<reqwest::Response> {
    let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
    let answer = match request.send().await {
        Err(error) if error.is_builder() => {
            return Err(
                Usage(format!("--url must be as http://127.0.0.1:8080: `{url}` cannot be asked")).into()
            );
        }
        sent => sent.with_context(|| format!("cannot ask {url}: is `zeugma up` running there? (--url)"))?,
    };
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let bytes = answer.bytes().await.context("the answer broke off")?;
    bail!(problem(&bytes).unwrap_or_else(|| format!("the server answered {status}")))
}

/// The sentence of a problem document (RFC 9457).
fn problem(body: &[u8]) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |key: &str| problem[key].as_str();
    match (text("title"), text("detail")) {
        (Some(title), Some(detail)) => Some(format!("{title}: {detail}")),
        (Some(title), None) => Some(title.to_owned()),
        _ => None,
    }
}
