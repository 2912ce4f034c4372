//! Whether the program lives, whether it is ready, and its numbers.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::App;
use crate::problem::Problem;

/// It lives.
pub async fn alive() -> &'static str {
    "ok\n"
}

/// It is ready, or why not.
pub async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    let reasons = (app.components.ready)();
    if reasons.is_empty() { Ok("ok\n") } else { Err(Problem::not_ready(&reasons)) }
}

/// Its numbers, in the format of OpenMetrics: by the older one's name Prometheus would stumble over `info`.
pub async fn metrics(State(app): State<App>) -> Response {
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, media_type)], (app.components.metrics)()).into_response()
}
