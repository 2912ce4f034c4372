//! Commands of an operator: JSON comes in, reports go out, one JSON object a line.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use zeugma_schemas::id::is_id;

use super::{App, params::invalid};
use crate::{Error, Writer, encode::Form};

/// Reads a command; `example` shows what is wanted.
pub fn read<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes, example: &str) -> Result<T, Error> {
    // A page of somebody else's in this machine's browser can send forms and text here, but not this.
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !media_type.is_some_and(|found| found.starts_with("application/json")) {
        return Err(invalid("`Content-Type: application/json` is wanted"));
    }
    serde_json::from_slice(body).map_err(|error| invalid(format!("the body must be {example}: {error}")))
}

/// The writer of this process.
///
/// # Errors
/// [`Error::NotFound`] where it only reads.
pub fn writer(app: &App) -> Result<&Writer, Error> {
    let does_not_write =
        || Error::NotFound("this process does not write: ask `zeugma up` or `zeugma ingest`".into());
    app.components.writer.as_ref().ok_or_else(does_not_write)
}

/// A command that lacks something.
pub fn wanted(what: &str) -> Error {
    invalid(format!("the body must have {what}"))
}

/// Checks what must be the id of a tenant or device.
pub fn id(name: &str, value: &str) -> Result<(), Error> {
    if is_id(value) {
        return Ok(());
    }
    Err(invalid(format!("`{name}` is no name: 1 to 64 of a-z A-Z 0-9 . _ - are wanted, not `{value}`")))
}

/// Why the writer has not done what it was told.
pub fn failed(message: String) -> Error {
    Error::Unavailable { message }
}

/// Answers reports as they come.
pub fn reports(reports: impl Stream<Item = Value> + Send + 'static) -> Response {
    let lines = reports.map(|report| Ok::<_, std::convert::Infallible>(Bytes::from(format!("{report}\n"))));
    let headers = [(header::CONTENT_TYPE, Form::Ndjson.media_type()), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(lines)).into_response()
}
