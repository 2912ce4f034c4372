//! Erasures, and who is blocked, for operators.
//!
//! `POST /internal/v1/erase` with `{"tenant": "lamia", "device": "bus-1", "and_block": true}`, or `"all_devices":
//! true` instead of a device, erases everything that came up to now. The answer is a stream of JSON objects, one a
//! line: the steps, and in the last `"done": true` and the erasure's note, or `"error"` with the reason. Whoever
//! stops reading does not stop it. `GET /internal/v1/erasures` has the notes, which are the proofs; `GET
//! /internal/v1/blocked` who is blocked, and `POST /internal/v1/blocked/lift` lifts that.

use axum::{Json, body::Bytes, extract::State, http::HeaderMap, response::Response};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use zeugma_lake::{
    erasure::{Erasing, Erasure},
    gone::Subject,
};

use super::{App, command};
use crate::{Error, problem::Problem};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    tenant: String,
    device: Option<String>,
    #[serde(default)]
    all_devices: bool,
    #[serde(default)]
    and_block: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lifted {
    tenant: String,
    device: Option<String>,
}

/// Erases a tenant or device.
pub async fn erase(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let writer = command::writer(&app)?;
    let example = r#"{"tenant": "…", "device": "…"}, or "all_devices": true instead of a device"#;
    let Wanted { tenant, device, all_devices, and_block } = command::read(&headers, &body, example)?;
    if device.is_some() == all_devices {
        return Err(command::wanted("a device, or all of them: `device` or `all_devices`").into());
    }
    let subject = subject(tenant, device)?;
    let reports = (writer.erase)(subject, and_block).map_err(Error::Busy)?;
    Ok(command::reports(reports.map(|report| match report {
        Ok(Erasing::Step(step)) => json!({ "step": step }),
        Ok(Erasing::Done(erasure)) => json!({ "done": true, "erasure": *erasure }),
        Err(error) => json!({ "error": error }),
    })))
}

/// All erasures there were, the oldest first.
pub async fn list(State(app): State<App>) -> Result<Json<Vec<Erasure>>, Problem> {
    Ok(Json(app.components.lake.erasures().await.map_err(Error::from)?))
}

/// Who is blocked.
pub async fn blocked(State(app): State<App>) -> Result<Json<Vec<Subject>>, Problem> {
    Ok(Json(app.components.lake.blocked().await.map_err(Error::from)?.into_iter().collect()))
}

/// Blocks a tenant or device no more.
pub async fn lift(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, Problem> {
    let writer = command::writer(&app)?;
    let Lifted { tenant, device } = command::read(&headers, &body, r#"{"tenant": "…", "device": "…"}"#)?;
    let subject = subject(tenant, device)?;
    if !(writer.unblock)(subject.clone()).await.map_err(command::failed)? {
        return Err(Error::NotFound(format!("{subject} is not blocked")).into());
    }
    Ok(Json(json!({ "lifted": subject })))
}

fn subject(tenant: String, device: Option<String>) -> Result<Subject, Error> {
    command::id("tenant", &tenant)?;
    device.iter().try_for_each(|device| command::id("device", device))?;
    Ok(Subject { tenant, device })
}
