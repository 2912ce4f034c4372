//! An answer on its way out: the form that was asked for, and bytes as they come.

use std::io;

use axum::{
    body::Body,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::{Answer, Error, encode::Form};

/// The form that `Accept` prefers; JSON where nothing is said.
///
/// # Errors
/// [`Error::NotAcceptable`] where none of ours is accepted.
pub fn form(headers: &HeaderMap) -> Result<Form, Error> {
    let best = accepted(headers).into_iter().find_map(|media_type| form_of(&media_type));
    let offered = || Form::ALL.map(Form::media_type).join(", ");
    best.ok_or_else(|| Error::NotAcceptable(format!("answers are offered as {}", offered())))
}

/// The media types of `Accept`, the most wanted first; `*/*` where nothing is said.
pub fn accepted(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut wanted: Vec<(f32, String)> =
        values.flat_map(|value| value.split(',')).filter_map(weighed).collect();
    if wanted.is_empty() {
        return vec!["*/*".to_owned()];
    }
    wanted.sort_by(|one, other| other.0.total_cmp(&one.0));
    wanted.into_iter().map(|(_, media_type)| media_type).collect()
}

fn weighed(range: &str) -> Option<(f32, String)> {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next()?.to_ascii_lowercase();
    let weight =
        parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |weight| weight.parse().ok())?;
    (weight > 0.0).then_some((weight, media_type))
}

fn form_of(media_type: &str) -> Option<Form> {
    match media_type {
        "*/*" | "application/*" => Some(Form::Json),
        "text/*" => Some(Form::Csv),
        other => Form::ALL.into_iter().find(|form| form.media_type() == other),
    }
}

/// Sends an answer as its rows come. What cannot be said with a status any more breaks the connection,
/// so that nobody takes half an answer for a whole one.
pub async fn send(answer: Answer, form: Form) -> Result<Response, Error> {
    let mut encoder = form.encoder(answer.schema())?;
    let mut batches = answer.into_batches();
    let first = match batches.next().await {
        Some(rows) => encoder.write(&rows?).map(|()| true)?,
        None => false,
    };
    if !first {
        encoder.finish()?;
    }
    let begin = encoder.take();
    let rest = stream::unfold(first.then_some((encoder, batches)), |state| async {
        let (mut encoder, mut batches) = state?;
        match batches.next().await {
            Some(rows) => match rows.and_then(|rows| encoder.write(&rows)) {
                Ok(()) => Some((Ok(encoder.take()), Some((encoder, batches)))),
                Err(error) => Some((Err(broken(error)), None)),
            },
            None => Some((encoder.finish().map(|()| encoder.take()).map_err(broken), None)),
        }
    });
    let chunks = stream::iter([Ok(begin)]).chain(rest).map(|chunk| chunk.map(Bytes::from));
    Ok(respond(form, Body::from_stream(chunks)))
}

/// An answer that is there as a whole.
pub fn respond(form: Form, body: impl Into<Body>) -> Response {
    let media_type = match form {
        Form::Csv => "text/csv; charset=utf-8; header=present",
        other => other.media_type(),
    };
    ([(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-store")], body.into()).into_response()
}

fn broken(error: Error) -> io::Error {
    tracing::warn!(%error, "an answer broke off");
    io::Error::other(error)
}
