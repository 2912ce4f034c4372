//! `POST /internal/v1/compact` with `{"table": "fleet"}` or `{}`: merges the files of each span of dates into one
//! run.
//!
//! The answer is a stream of JSON objects, one a line: how far it is, and in the last `"done": true`, or
//! `"error"` with the reason. Whoever stops reading does not stop the compaction.

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;

use super::{App, command};
use crate::{Error, problem::Problem};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    table: Option<String>,
}

/// Compacts a table, or all.
pub async fn compact(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let writer = command::writer(&app)?;
    let wanted: Wanted = command::read(&headers, &body, r#"{"table": "fleet"}, or {} for all"#)?;
    if let Some(table) = &wanted.table {
        app.query.known(table).await?;
    }
    let reports = (writer.compact)(wanted.table).map_err(Error::Busy)?;
    let lines = reports.map(|report| match report {
        Ok(progress) => serde_json::to_value(progress).unwrap_or_default(),
        Err(error) => json!({ "error": error }),
    });
    Ok(command::reports(lines))
}
