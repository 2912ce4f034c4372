//! How long rows are kept, for operators: `GET /internal/v1/retention` has the rules; `POST …/retention/set` with
//! `{"tenant": "lamia", "domain": "fleet", "keep_days": 60}` sets one, and `POST …/retention/unset` drops the one of
//! exactly this tenant and domain. Either may be left out; without `keep_days` rows are kept for ever.

use axum::{Json, body::Bytes, extract::State, http::HeaderMap};
use serde::Deserialize;
use serde_json::{Value, json};
use zeugma_lake::retention::{KEEP_DAYS_MAX, Rule, Rules};

use super::{App, command};
use crate::{Error, problem::Problem};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    tenant: Option<String>,
    domain: Option<String>,
    keep_days: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unwanted {
    tenant: Option<String>,
    domain: Option<String>,
}

/// The rules in force.
pub async fn list(State(app): State<App>) -> Result<Json<Rules>, Problem> {
    Ok(Json(app.components.lake.retention().await.map_err(Error::from)?))
}

/// Sets a rule, instead of one for the same tenant and domain.
pub async fn set(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, Problem> {
    let writer = command::writer(&app)?;
    let example = r#"{"tenant": "…", "domain": "…", "keep_days": 60}"#;
    let Wanted { tenant, domain, keep_days } = command::read(&headers, &body, example)?;
    if keep_days.is_some_and(|days| !(1..=KEEP_DAYS_MAX).contains(&days)) {
        let wanted = format!("1 to {KEEP_DAYS_MAX} days in `keep_days`, or none for ever");
        return Err(command::wanted(&wanted).into());
    }
    check(&app, tenant.as_deref(), domain.as_deref()).await?;
    let rule = Rule { tenant, table: domain, keep_days };
    (writer.set_rule)(rule.clone()).await.map_err(command::failed)?;
    Ok(Json(json!({ "set": rule })))
}

/// Drops a rule.
pub async fn unset(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, Problem> {
    let writer = command::writer(&app)?;
    let example = r#"{"tenant": "…", "domain": "…"}"#;
    let Unwanted { tenant, domain } = command::read(&headers, &body, example)?;
    check(&app, tenant.as_deref(), domain.as_deref()).await?;
    if !(writer.unset_rule)(tenant, domain).await.map_err(command::failed)? {
        let message =
            "there is no rule for exactly this tenant and domain; GET /internal/v1/retention has all";
        return Err(Error::NotFound(message.to_owned()).into());
    }
    Ok(Json(json!({ "unset": true })))
}

async fn check(app: &App, tenant: Option<&str>, domain: Option<&str>) -> Result<(), Error> {
    tenant.into_iter().try_for_each(|tenant| command::id("tenant", tenant))?;
    match domain {
        Some(domain) => app.query.known(domain).await.map(drop),
        None => Ok(()),
    }
}
