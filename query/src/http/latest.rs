//! `/api/v1/{domain}/latest`: the newest reading of each device.

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Float64Type, SchemaRef},
    json::LineDelimitedWriter,
};
use axum::{
    extract::{Path, RawQuery, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use datafusion::{
    dataframe::DataFrame,
    logical_expr::{Expr, col, lit},
};

use super::{
    App, body,
    params::{Params, invalid},
};
use crate::{Error, problem::Problem};

const GEO_JSON: &str = "application/geo+json";

/// West, south, east, north, in degrees.
type Box4 = [f64; 4];

/// All columns of the newest reading of each device.
pub async fn latest(
    State(app): State<App>,
    Path(domain): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::read(query.as_deref(), &["tenant", "device", "bbox", "tail", "version"])?;
    let known = app.query.known(&domain).await?;
    let columns = known.tables[&domain].columns.clone();
    if columns.column_with_name("device").is_none() {
        return Err(Error::NotFound(format!("`{domain}` is not about devices")).into());
    }
    let has_place =
        columns.column_with_name("latitude").is_some() && columns.column_with_name("longitude").is_some();
    let bbox = params.one("bbox")?.map(parse_box).transpose()?;
    if bbox.is_some() && !has_place {
        return Err(invalid(format!("`{domain}` has no positions, so `bbox` cannot be answered")).into());
    }
    let geo = body::accepted(&headers).first().is_some_and(|first| first == GEO_JSON);
    if geo && !has_place {
        return Err(
            Error::NotAcceptable(format!("`{domain}` has no positions; ask for application/json")).into()
        );
    }
    let (tenants, devices) = (params.ids("tenant")?, params.ids("device")?);
    let build = |rows: DataFrame| newest(rows, &columns, &tenants, &devices, bbox);
    let answer = app.query.ask_latest(&app.grant(&headers), params.rows()?, &domain, build).await?;
    match geo {
        true => {
            let features = feature_collection(&answer.collect().await?)?;
            Ok(([(header::CONTENT_TYPE, GEO_JSON), (header::CACHE_CONTROL, "no-store")], features)
                .into_response())
        }
        false => Ok(body::send(answer, body::form(&headers)?).await?),
    }
}

fn newest(
    rows: DataFrame,
    columns: &SchemaRef,
    tenants: &[&str],
    devices: &[&str],
    bbox: Option<Box4>,
) -> Result<DataFrame, Error> {
    let mut rows = rows;
    for filter in [one_of("tenant", tenants), one_of("device", devices)].into_iter().flatten() {
        rows = rows.filter(filter)?;
    }
    let shown: Vec<&str> =
        columns.fields().iter().map(|field| field.name().as_str()).filter(|name| *name != "date").collect();
    rows = rows.select_columns(&shown)?;
    if let Some(bbox) = bbox {
        rows = rows.filter(within(bbox))?;
    }
    Ok(rows.sort_by(vec![col("tenant"), col("device")])?)
}

/// A column is one of some names; none given, no filter.
pub fn one_of(column: &str, names: &[&str]) -> Option<Expr> {
    (!names.is_empty()).then(|| col(column).in_list(names.iter().map(|name| lit(*name)).collect(), false))
}

fn within([west, south, east, north]: Box4) -> Expr {
    let (latitude, longitude) = (|| col("latitude"), || col("longitude"));
    let between_sides = match west <= east {
        true => longitude().gt_eq(lit(west)).and(longitude().lt_eq(lit(east))),
        // A box over the 180th meridian.
        false => longitude().gt_eq(lit(west)).or(longitude().lt_eq(lit(east))),
    };
    latitude().gt_eq(lit(south)).and(latitude().lt_eq(lit(north))).and(between_sides)
}

fn parse_box(text: &str) -> Result<Box4, Error> {
    let numbers: Vec<f64> = text.split(',').filter_map(|part| part.trim().parse().ok()).collect();
    let wanted = || invalid(format!("`bbox={text}` is no box: west,south,east,north in degrees is wanted"));
    let found = Box4::try_from(numbers).ok().filter(|_| text.split(',').count() == 4);
    found.filter(|[_, south, _, north]| south <= north).ok_or_else(wanted)
}

/// RFC 7946: a point for each row that has a place, its columns as properties.
fn feature_collection(batches: &[RecordBatch]) -> Result<String, Error> {
    let mut features = Vec::new();
    for rows in batches {
        let mut lines = LineDelimitedWriter::new(Vec::new());
        lines.write(rows)?;
        let lines = lines.into_inner();
        let degrees = |name: &str| rows.column_by_name(name)?.as_primitive_opt::<Float64Type>();
        let (latitude, longitude) = degrees("latitude")
            .zip(degrees("longitude"))
            .ok_or_else(|| Error::NotAcceptable("its positions are not in degrees".into()))?;
        let places = longitude.iter().zip(latitude);
        for (properties, place) in String::from_utf8_lossy(&lines).lines().zip(places) {
            if let (Some(longitude), Some(latitude)) = place {
                let point = serde_json::json!({ "type": "Point", "coordinates": [longitude, latitude] });
                features
                    .push(format!(r#"{{"type":"Feature","geometry":{point},"properties":{properties}}}"#));
            }
        }
    }
    Ok(format!("{{\"type\":\"FeatureCollection\",\"features\":[{}]}}\n", features.join(",\n")))
}
