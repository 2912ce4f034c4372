//! `zeugma dead-letters`: what was refused and kept is counted, or put through acceptance again.

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{reports::Reports, say, sql, writer::Writer};

/// What to do with dead letters.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// How many there are that no replay has settled, by tenant and reason
    List(ListArgs),
    /// Put letters through acceptance again, after a schema was mended or a clock set
    ///
    /// Tenant, topic and time of arrival stay; a letter replayed twice makes no second row. Ends with what
    /// became of them.
    Replay(ReplayArgs),
}

/// Where the letters are, and how they are printed.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// The server
    #[arg(long, env = "ZEUGMA_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Who asks; not needed on this machine's own addresses
    #[arg(long, env = "ZEUGMA_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// How the answer is printed
    #[arg(long, env = "ZEUGMA_FORMAT", value_enum, default_value_t = sql::Format::Table)]
    pub format: sql::Format,
}

/// Which letters, and where they are.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// Which letters, as SQL has it behind WHERE: "reason = 'unknown_domain' AND tenant = 'lamia'"
    #[arg(long = "where", env = "ZEUGMA_WHERE", value_name = "CONDITION")]
    pub condition: String,
    /// Which server.
    #[command(flatten)]
    pub writer: Writer,
}

/// Open letters: those without a settlement.
const LIST: &str = "SELECT letter.tenant, letter.reason, count(*) AS letters, sum(letter.payload_bytes) AS bytes, \
    min(letter.received_at) AS first, max(letter.received_at) AS last FROM dead_letters letter \
    LEFT ANTI JOIN (SELECT source, \"position\", \"index\" FROM dead_letters WHERE reason = 'replayed') settled \
    ON letter.source = settled.source AND letter.\"position\" = settled.\"position\" \
    AND letter.\"index\" = settled.\"index\" WHERE letter.reason <> 'replayed' \
    GROUP BY letter.tenant, letter.reason ORDER BY letter.tenant, letter.reason";

/// Runs it; a replay that is stopped goes on with the same call.
pub async fn run(command: &Command, shutdown: CancellationToken) -> anyhow::Result<()> {
    match command {
        Command::List(ListArgs { url, token, format }) => {
            let (url, token) = (url.clone(), token.clone());
            sql::run(&sql::Args { sql: LIST.to_owned(), url, token, format: *format }).await
        }
        Command::Replay(args) => tokio::select! {
            replayed = replay(args) => replayed,
            () = shutdown.cancelled() => bail!("stopped; the same call goes on with the rest"),
        },
    }
}

async fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let body = serde_json::json!({ "where": args.condition });
    follow(args.writer.reports("dead-letters/replay", &body).await?).await
}

/// Follows the server's reports to the last, and prints what it says.
async fn follow(mut reports: Reports) -> anyhow::Result<()> {
    const BROKEN: &str =
        "the answer broke off; what was replayed is settled, the same call goes on with the rest";
    let mut found: Option<(Value, ProgressBar)> = None;
    let mut last = Value::Null;
    while let Some(report) = reports.next().await.context(BROKEN)? {
        match &found {
            None => found = Some((report.clone(), bar(number(&report, "letters")))),
            Some((_, bar)) => {
                bar.set_position(number(&report, "replayed"));
                last = report;
            }
        }
    }
    let (found, bar) = found.context(BROKEN)?;
    bar.finish_and_clear();
    say::line(&summary(&found, &last))?;
    match last["error"].as_str() {
        Some(error) => bail!("{error}"),
        None if last["done"] != true => bail!(BROKEN),
        None => Ok(()),
    }
}

/// One line of what became of the letters.
fn summary(found: &Value, last: &Value) -> String {
    let count = |key| number(last, key);
    let mut text = format!(
        "replayed {} of {} letters: {} readings accepted, {} repeated, {} refused again",
        count("replayed"),
        number(found, "letters"),
        count("accepted"),
        count("repeated"),
        last["rejected"].as_object().map_or(0, |reasons| reasons.values().filter_map(Value::as_u64).sum()),
    );
    let reasons = last["rejected"].as_object().filter(|reasons| !reasons.is_empty());
    if let Some(reasons) = reasons {
        let reasons: Vec<String> =
            reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        text.push_str(&format!(" ({})", reasons.join(", ")));
    }
    for (key, says) in [
        ("unchanged", "unchanged"),
        ("settled", "settled before"),
        ("cut", "too large to be replayed, as only the beginning is kept"),
    ] {
        let number = number(last, key).max(number(found, key));
        if number > 0 {
            text.push_str(&format!("; {number} {says}"));
        }
    }
    if let Some(more) = found["more"].as_u64() {
        text.push_str(&format!("; one replay takes {more} letters, and there are more: narrow --where down"));
    }
    let nothing = ["letters", "settled", "cut"].iter().all(|key| number(found, key) == 0);
    if nothing {
        text.push_str("; nothing fulfils --where: `zeugma dead-letters list` shows what there is");
    }
    text
}

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_default()
}

/// A bar on stderr where that is a terminal, otherwise nothing.
fn bar(letters: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:32} {human_pos}/{human_len} letters, {per_sec}, {eta} left")
            .expect("the template is well-formed");
    ProgressBar::with_draw_target(Some(letters), ProgressDrawTarget::stderr()).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_says_what_became_of_the_letters() {
        let found = serde_json::json!({ "letters": 3, "cut": 1, "settled": 0, "more": null });
        let last = serde_json::json!({
            "replayed": 3, "unchanged": 1, "accepted": 4, "repeated": 0, "rejected": { "content": 2 }, "done": true,
        });
        assert_eq!(
            summary(&found, &last),
            "replayed 3 of 3 letters: 4 readings accepted, 0 repeated, 2 refused again (content 2); 1 unchanged; \
             1 too large to be replayed, as only the beginning is kept"
        );
        let none = serde_json::json!({ "letters": 0, "cut": 0, "settled": 0, "more": null });
        assert!(summary(&none, &Value::Null).contains("dead-letters list"));
    }
}
