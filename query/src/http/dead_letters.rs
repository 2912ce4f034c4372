//! `POST /internal/v1/dead-letters/replay` with `{"where": "…"}`: puts dead letters through acceptance again.
//!
//! The answer is a stream of JSON objects, one a line: first what was found, then after each page what has
//! become of all letters so far, with `"done": true` in the last. Where it breaks off, the last line says why
//! and nothing is lost: what was replayed is settled, and the same request goes on with the rest.

use std::time::Duration;

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use zeugma_schemas::dead_letter::Replayed;

use super::{App, command};
use crate::{
    Error, Query,
    dead_letters::{Choice, LETTERS_MAX},
    problem::Problem,
    writer::Replay,
};

/// How long one page may wait for its decision; without the lake late readings cannot be decided.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    r#where: String,
}

/// Replays what fulfils the condition.
pub async fn replay(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let replay = command::writer(&app)?.replay.clone();
    let wanted: Wanted = command::read(&headers, &body, r#"{"where": "reason = '…'"}"#)?;
    let alone = app.replaying.clone().try_acquire_owned();
    let alone = alone.map_err(|_| Error::Busy("dead letters are being replayed; ask again later".into()))?;
    let choice = Choice::of(&app.query, &wanted.r#where).await?;
    let first = json!({
        "letters": choice.letters, "cut": choice.cut, "settled": choice.settled,
        "more": choice.more.then_some(LETTERS_MAX),
    });
    let run = Run { query: app.query, replay, choice, replayed: Replayed::default(), _alone: alone };
    let rest = stream::unfold(Some(run), |run| async {
        let (line, run) = run?.step().await;
        Some((line, run))
    });
    Ok(command::reports(stream::iter([first]).chain(rest)))
}

/// A replay under way.
struct Run {
    query: Query,
    replay: Replay,
    choice: Choice,
    replayed: Replayed,
    _alone: OwnedSemaphorePermit,
}

impl Run {
    /// One page; nothing goes on behind the last one or a failure.
    async fn step(mut self) -> (Value, Option<Run>) {
        match self.page().await {
            Ok(more) => (self.report(!more), more.then_some(self)),
            Err(problem) => {
                let mut report = self.report(false);
                report["error"] = problem.into();
                (report, None)
            }
        }
    }

    async fn page(&mut self) -> Result<bool, String> {
        let page = self.choice.page(&self.query).await.map_err(|error| error.to_string())?;
        let Some(page) = page else { return Ok(false) };
        let letters = page.len();
        let decided = tokio::time::timeout(WAIT_MAX, (self.replay)(page)).await;
        let decided = decided.map_err(|_| {
            format!("{letters} letters are in the journal and not decided yet: does the lake answer?")
        })?;
        self.replayed.add(&decided?);
        Ok(true)
    }

    fn report(&self, done: bool) -> Value {
        let Replayed { letters, unchanged, accepted, repeated, rejected } = &self.replayed;
        json!({
            "replayed": letters, "unchanged": unchanged, "accepted": accepted, "repeated": repeated,
            "rejected": rejected, "done": done,
        })
    }
}
