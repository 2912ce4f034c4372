//! `POST /api/v1/sql` with `{"sql": "…"}`, and `GET /api/v1/sql?q=`.

use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::HeaderMap,
    response::Response,
};
use futures::StreamExt;
use serde::Deserialize;

use super::{
    App, body,
    params::{Params, invalid},
};
use crate::{Error, problem::Problem, statement::SQL_BYTES_MAX};

/// A question in JSON: every byte of it may be escaped (`\u0000`), and there is a frame around it.
const BODY_BYTES_MAX: usize = 6 * SQL_BYTES_MAX + 4 * 1024;

/// What is read and thrown away of a longer one, so that its sender comes to hear the answer.
const DISCARDED_BYTES_MAX: usize = 64 << 20;

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
    body: Body,
) -> Result<Response, Problem> {
    let params = Params::read(query.as_deref(), &["tail", "version"])?;
    let body = whole(body).await?;
    let question: Question = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("the body must be {{\"sql\": \"SELECT …\"}}: {error}")))?;
    answer(&app, &headers, &params, &question.sql).await
}

/// The body, in whole. One that is too long is read to its end before it is refused: whoever still sends
/// when the connection closes loses the answer with it.
async fn whole(body: Body) -> Result<Vec<u8>, Error> {
    let mut pieces = body.into_data_stream();
    let (mut kept, mut read_bytes) = (Vec::new(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| invalid("the request's body did not arrive"))?;
        read_bytes += piece.len();
        if read_bytes <= BODY_BYTES_MAX {
            kept.extend_from_slice(&piece);
        } else if read_bytes > DISCARDED_BYTES_MAX {
            break;
        }
    }
    if read_bytes > BODY_BYTES_MAX {
        return Err(Error::TooLarge(format!("a question may have {SQL_BYTES_MAX} bytes")));
    }
    Ok(kept)
}

/// A question in the URL.
pub async fn get(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::read(query.as_deref(), &["q", "tail", "version"])?;
    let sql = params.one("q")?.ok_or_else(|| invalid("`q` is missing: ask as /api/v1/sql?q=SELECT%201"))?;
    answer(&app, &headers, &params, sql).await
}

async fn answer(app: &App, headers: &HeaderMap, params: &Params, sql: &str) -> Result<Response, Problem> {
    let form = body::form(headers)?;
    let answer = app.query.ask(&app.grant(headers), params.rows()?, sql).await?;
    Ok(body::send(answer, form).await?)
}
