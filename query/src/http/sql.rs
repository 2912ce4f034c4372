//! `POST /api/v1/sql` with `{"sql": "…"}`, and `GET /api/v1/sql?q=`.

use axum::{
    body::Bytes,
    extract::{RawQuery, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    App, body,
    params::{Params, invalid},
};
use crate::{Error, problem::Problem, statement::SQL_BYTES_MAX};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    sql: String,
}

/// A question in the body.
pub async fn post(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let params = Params::read(query.as_deref(), &["tail"])?;
    let body = body.map_err(|rejected| match rejected.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Error::TooLarge(format!("a question may have {SQL_BYTES_MAX} bytes"))
        }
        _ => invalid("the request's body did not arrive"),
    })?;
    let question: Question = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("the body must be {{\"sql\": \"SELECT …\"}}: {error}")))?;
    answer(&app, &headers, &params, &question.sql).await
}

/// A question in the URL.
pub async fn get(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::read(query.as_deref(), &["q", "tail"])?;
    let sql = params.one("q")?.ok_or_else(|| invalid("`q` is missing: ask as /api/v1/sql?q=SELECT%201"))?;
    answer(&app, &headers, &params, sql).await
}

async fn answer(app: &App, headers: &HeaderMap, params: &Params, sql: &str) -> Result<Response, Problem> {
    let form = body::form(headers)?;
    let answer = app.query.ask(&app.grant(headers), params.rows()?, sql).await?;
    Ok(body::send(answer, form).await?)
}
