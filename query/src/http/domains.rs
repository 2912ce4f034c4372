//! `/api/v1/domains`: what there is, of what the asker may see.

use arrow::{array::AsArray, datatypes::Int64Type, datatypes::TimestampMicrosecondType};
use axum::{
    Json,
    extract::{Path, RawQuery, State},
    http::HeaderMap,
};
use chrono::{DateTime, SecondsFormat};
use datafusion::{
    dataframe::DataFrame,
    functions_aggregate::expr_fn::{count, max, min},
    logical_expr::{col, lit},
};
use serde_json::{Value, json};
use zeugma_schemas::{dead_letter, domain::Domain};

use super::{App, params::Params};
use crate::{Error, Grant, Rows, encode::type_name, problem::Problem};

/// What is stored of a table: numbers of the granted tenants alone.
#[derive(Default)]
struct Stored {
    tenants: Vec<String>,
    rows: i64,
    times_us: Option<(i64, i64)>,
}

/// All domains.
pub async fn list(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let rows = Params::read(query.as_deref(), &["tail"])?.rows()?;
    let known = app.query.catalog().tables().await?;
    let mut domains = Vec::new();
    for domain in known.domains.iter() {
        domains.push(describe(&app, &app.grant(&headers), rows, domain).await?);
    }
    Ok(Json(json!({ "domains": domains })))
}

/// One of them.
pub async fn one(
    State(app): State<App>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let rows = Params::read(query.as_deref(), &["tail"])?.rows()?;
    let known = app.query.known(&name).await?;
    let missing = || Error::NotFound(format!("there is no domain `{name}`"));
    let domain = known.domains.get(&name).filter(|_| name != dead_letter::TABLE).ok_or_else(missing)?;
    Ok(Json(describe(&app, &app.grant(&headers), rows, domain).await?))
}

async fn describe(app: &App, grant: &Grant, rows: Rows, domain: &Domain) -> Result<Value, Error> {
    let stored = stored(app, grant, rows, domain.name()).await?;
    let shown = domain.columns().fields().iter().filter(|field| field.name() != "date");
    let columns = shown.map(|field| {
        let text = |key: &str| field.metadata().get(key).cloned().unwrap_or_default();
        json!({
            "name": field.name(),
            "type": type_name(field.data_type()),
            "unit": text("unit"),
            "doc": text("doc"),
            "counter": field.metadata().contains_key("counter"),
            "required": !field.is_nullable(),
        })
    });
    let moment = |time_us| {
        Some(DateTime::from_timestamp_micros(time_us)?.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    };
    Ok(json!({
        "name": domain.name(),
        "doc": domain.newest().doc,
        "columns": Value::from_iter(columns),
        "tenants": stored.tenants,
        "rows": stored.rows,
        "version": app.query.known(domain.name()).await?.tables[domain.name()].version(),
        "from": stored.times_us.and_then(|(from, _)| moment(from)),
        "to": stored.times_us.and_then(|(_, to)| moment(to)),
    }))
}

async fn stored(app: &App, grant: &Grant, rows: Rows, table: &str) -> Result<Stored, Error> {
    let build = |rows: DataFrame| {
        let numbers = vec![
            count(lit(1_i64)).alias("rows"),
            min(col("time")).alias("first"),
            max(col("time")).alias("last"),
        ];
        Ok(rows.aggregate(vec![col("tenant")], numbers)?.sort_by(vec![col("tenant")])?)
    };
    let mut stored = Stored::default();
    for batch in app.query.ask_table(grant, rows, table, build).await?.collect().await? {
        let (tenants, counts) =
            (batch.column(0).as_string_view(), batch.column(1).as_primitive::<Int64Type>());
        let time = |column: usize| batch.column(column).as_primitive::<TimestampMicrosecondType>();
        let (first, last) = (time(2), time(3));
        for row in 0..batch.num_rows() {
            stored.tenants.push(tenants.value(row).to_owned());
            stored.rows += counts.value(row);
            let (from, to) = stored.times_us.unwrap_or((i64::MAX, i64::MIN));
            stored.times_us = Some((from.min(first.value(row)), to.max(last.value(row))));
        }
    }
    Ok(stored)
}
