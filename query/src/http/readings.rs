//! `/api/v1/{domain}/readings`: raw rows or buckets, page by page.

use std::sync::Arc;

use arrow::{
    array::{AsArray, RecordBatch},
    compute::concat_batches,
    datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType},
};
use axum::{
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderValue},
    response::Response,
};
use datafusion::{
    dataframe::DataFrame,
    functions::datetime,
    functions_aggregate::expr_fn::{avg, count, max, min, sum},
    logical_expr::{Expr, cast, col, ident, lit},
    scalar::ScalarValue,
};
use zeugma_schemas::id::is_id;

use super::{
    App, body,
    latest::one_of,
    params::{Params, invalid},
};
use crate::{
    Error,
    encode::{Form, json_page},
    problem::Problem,
};

const PARAMS: [&str; 10] =
    ["tenant", "device", "from", "to", "every", "agg", "limit", "cursor", "tail", "version"];
const LIMIT: usize = 1_000;
/// A page is held in memory as a whole: 100,000 rows of 200 bytes are 20 MB.
const LIMIT_MAX: usize = 100_000;
/// Header with the next page's cursor, where the form has no place for it.
const NEXT: &str = "zeugma-next";

/// What a page is about.
struct Asked {
    filters: Vec<Expr>,
    buckets: Option<Buckets>,
    after: Option<Cursor>,
    limit: usize,
}

struct Buckets {
    every_s: i64,
    aggregates: Vec<String>,
}

/// The last row of a page; the next one begins behind it.
#[derive(Debug, PartialEq)]
struct Cursor {
    tenant: String,
    device: String,
    time_us: i64,
}

/// Readings by tenant, device and time.
pub async fn readings(
    State(app): State<App>,
    Path(domain): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::read(query.as_deref(), &PARAMS)?;
    let form = body::form(&headers)?;
    let known = app.query.known(&domain).await?;
    let columns = known.tables[&domain].columns.clone();
    if columns.column_with_name("device").is_none() {
        return Err(Error::NotFound(format!("`{domain}` is not about devices")).into());
    }
    let asked = Asked::read(&params)?;
    let limit = asked.limit;
    let build = |rows: DataFrame| page(rows, &columns, asked);
    let answer = app.query.ask_table(&app.grant(&headers), params.rows()?, &domain, build).await?;
    let columns = answer.schema().clone();
    let rows = concat_batches(&columns, &answer.collect().await?).map_err(Error::from)?;
    let next = (rows.num_rows() > limit).then(|| Cursor::of(&rows, limit - 1)).flatten();
    let rows = rows.slice(0, rows.num_rows().min(limit));
    Ok(send(form, &rows, next)?)
}

fn send(form: Form, rows: &RecordBatch, next: Option<Cursor>) -> Result<Response, Error> {
    let next = next.map(|next| next.to_string());
    let bytes = match form {
        Form::Json => json_page(rows, next.as_deref())?,
        other => {
            let mut encoder = other.encoder(rows.schema_ref())?;
            encoder.write(rows)?;
            encoder.finish()?;
            encoder.take()
        }
    };
    let mut response = body::respond(form, bytes);
    if let Some(next) = next.and_then(|next| HeaderValue::from_str(&next).ok()) {
        response.headers_mut().insert(NEXT, next);
    }
    Ok(response)
}

impl Asked {
    fn read(params: &Params) -> Result<Asked, Error> {
        let mut filters: Vec<Expr> = Vec::new();
        filters.extend(one_of("tenant", &params.ids("tenant")?));
        filters.extend(one_of("device", &params.ids("device")?));
        filters.extend(params.time_us("from")?.map(|from| col("time").gt_eq(time(from))));
        filters.extend(params.time_us("to")?.map(|to| col("time").lt(time(to))));
        let every_s = params.one("every")?.map(parse_every).transpose()?;
        let aggregates = parse_aggregates(&params.list("agg"))?;
        let buckets = match (every_s, aggregates.is_empty()) {
            (None, true) => None,
            (None, false) => return Err(invalid("`agg` needs `every`, for example every=15m&agg=avg")),
            (Some(every_s), true) => Some(Buckets { every_s, aggregates: vec!["avg".into()] }),
            (Some(every_s), false) => Some(Buckets { every_s, aggregates }),
        };
        let after = params.one("cursor")?.map(Cursor::parse).transpose()?;
        Ok(Asked { filters, buckets, after, limit: params.number("limit", LIMIT, LIMIT_MAX)? })
    }
}

fn page(rows: DataFrame, columns: &SchemaRef, asked: Asked) -> Result<DataFrame, Error> {
    let mut rows = rows;
    for filter in asked.filters {
        rows = rows.filter(filter)?;
    }
    rows = match asked.buckets {
        None => {
            let shown = columns.fields().iter().filter(|field| field.name() != "date");
            rows.select(shown.map(|field| ident(field.name())).collect::<Vec<_>>())?
        }
        Some(buckets) => gathered(rows, columns, &buckets)?,
    };
    if let Some(after) = asked.after {
        rows = rows.filter(after.beyond())?;
    }
    let order = ["tenant", "device", "time"].map(|name| col(name).sort(true, false));
    // One more than is shown tells whether another page follows.
    Ok(rows.sort(order.to_vec())?.limit(0, Some(asked.limit + 1))?)
}

/// Buckets of UTC time for each device, with each number's aggregates.
fn gathered(rows: DataFrame, columns: &SchemaRef, buckets: &Buckets) -> Result<DataFrame, Error> {
    let stride = lit(ScalarValue::new_interval_mdn(0, 0, buckets.every_s * 1_000_000_000));
    // The engine counts buckets in nanoseconds; times of ours are microseconds everywhere.
    let bucket = cast(datetime::date_bin().call(vec![stride, col("time")]), time_type()).alias("time");
    let numbers =
        columns.fields().iter().filter(|field| field.name() != "seq" && is_number(field.data_type()));
    let aggregates = numbers.flat_map(|field| {
        let of =
            |name: &String| aggregate(name, ident(field.name())).alias(format!("{}_{name}", field.name()));
        buckets.aggregates.iter().map(of).collect::<Vec<_>>()
    });
    Ok(rows.aggregate(vec![col("tenant"), col("device"), bucket], aggregates.collect())?)
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating()
}

fn aggregate(name: &str, column: Expr) -> Expr {
    match name {
        "min" => min(column),
        "max" => max(column),
        "sum" => sum(column),
        "count" => count(column),
        _ => avg(column),
    }
}

fn parse_aggregates(names: &[&str]) -> Result<Vec<String>, Error> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        if !["avg", "min", "max", "sum", "count"].contains(name) {
            return Err(invalid(format!("`agg={name}` is not known: avg, min, max, sum, count are")));
        }
        if !found.iter().any(|known| known == name) {
            found.push((*name).to_owned());
        }
    }
    Ok(found)
}

/// `30s`, `15m`, `1h`, `1d` in seconds.
fn parse_every(text: &str) -> Result<i64, Error> {
    let wanted = || {
        invalid(format!("`every={text}` is no length of time: 30s, 15m, 1h or 1d is wanted, 366d at most"))
    };
    let unit = text.chars().last().ok_or_else(wanted)?;
    let unit_s = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wanted()),
    };
    let number: i64 = text[..text.len() - 1].parse().map_err(|_| wanted())?;
    number.checked_mul(unit_s).filter(|every_s| (1..=366 * 86_400).contains(every_s)).ok_or_else(wanted)
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
}

fn time(time_us: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(time_us), Some(Arc::from("UTC"))))
}

impl Cursor {
    fn of(rows: &RecordBatch, row: usize) -> Option<Cursor> {
        let text = |name: &str| Some(rows.column_by_name(name)?.as_string_view_opt()?.value(row).to_owned());
        let times = rows.column_by_name("time")?.as_primitive_opt::<TimestampMicrosecondType>()?;
        Some(Cursor { tenant: text("tenant")?, device: text("device")?, time_us: times.value(row) })
    }

    fn parse(text: &str) -> Result<Cursor, Error> {
        let wanted = || invalid("`cursor` is not one that was answered as `next`");
        let parts: Vec<&str> = text.split('~').collect();
        let [tenant, device, time_us] = parts[..] else { return Err(wanted()) };
        let time_us = time_us.parse().map_err(|_| wanted())?;
        match is_id(tenant) && is_id(device) {
            true => Ok(Cursor { tenant: tenant.into(), device: device.into(), time_us }),
            false => Err(wanted()),
        }
    }

    /// Rows behind this one.
    fn beyond(self) -> Expr {
        let (tenant, device) = (lit(self.tenant), lit(self.device));
        let later = col("device").eq(device.clone()).and(col("time").gt(time(self.time_us)));
        let of_tenant = col("tenant").eq(tenant.clone()).and(col("device").gt(device).or(later));
        col("tenant").gt(tenant).or(of_tenant)
    }
}

/// Names hold no `~`, and a URL needs no escapes for it.
impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}~{}~{}", self.tenant, self.device, self.time_us)
    }
}
