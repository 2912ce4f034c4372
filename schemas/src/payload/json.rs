//! JSON payloads: an object, or an array of objects, with the schema's field names.

use chrono::DateTime;
use serde_json::{Map, Value, value::RawValue};

use super::{Content, Reading, Rejected};
use crate::{
    dead_letter::Reason,
    domain::Domain,
    schema::{Field, Kind},
};

/// One value, of the type that its column wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Absent.
    Null,
    /// For [`Kind::Boolean`].
    Boolean(bool),
    /// For [`Kind::Int`], [`Kind::Long`] and [`Kind::Time`].
    Integer(i64),
    /// For [`Kind::Float`] and [`Kind::Double`]; always finite.
    Float(f64),
    /// For [`Kind::Text`].
    Text(String),
}

/// Takes each element on its own; text that is no JSON at all is one rejection.
pub(super) fn readings<'p>(
    domain: &Domain,
    payload: &'p [u8],
    received_at_us: i64,
) -> Vec<Result<Reading<'p>, Rejected<'p>>> {
    let elements = match elements(payload) {
        Ok(elements) => elements,
        Err(detail) => {
            return vec![Err(Rejected { index: 0, reason: Reason::Content, detail, bytes: payload })];
        }
    };
    let each = elements.into_iter().enumerate().map(|(index, text)| {
        let index = index as u32;
        reading(domain, index, text, received_at_us).map_err(|detail| Rejected {
            index,
            reason: Reason::Content,
            detail,
            bytes: text.as_bytes(),
        })
    });
    each.collect()
}

/// The texts of the payload's elements: the payload itself, unless it is an array.
fn elements(payload: &[u8]) -> Result<Vec<&str>, String> {
    let text = std::str::from_utf8(payload).map_err(|_| "it is neither Avro nor UTF-8 text")?;
    match text.trim_ascii_start().as_bytes().first() {
        None => Err("the payload is empty".into()),
        Some(b'{') => Ok(vec![text]),
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| no_json(&error))?;
            if elements.is_empty() {
                return Err("the array holds no reading".into());
            }
            Ok(elements.into_iter().map(RawValue::get).collect())
        }
        Some(_) => Err("it is neither an Avro frame nor a JSON object or array of objects".into()),
    }
}

fn reading<'p>(
    domain: &Domain,
    index: u32,
    text: &'p str,
    received_at_us: i64,
) -> Result<Reading<'p>, String> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err("it is no JSON object".into());
    }
    let mut object: Map<String, Value> = serde_json::from_str(text).map_err(|error| no_json(&error))?;
    let mut time_us = None;
    let mut cells = Vec::with_capacity(domain.newest().fields.len());
    for field in &domain.newest().fields {
        let value = object.remove(&field.name).unwrap_or(Value::Null);
        let cell = cell(field, value)?;
        if field.name == "time" {
            time_us = if let Cell::Integer(time_us) = cell { Some(time_us) } else { None };
        } else if field.required && cell == Cell::Null {
            return Err(format!(
                "field `{}` is missing; every reading of `{}` has it",
                field.name,
                domain.name()
            ));
        }
        cells.push(cell);
    }
    let extra = (!object.is_empty()).then(|| Value::Object(object).to_string());
    Ok(Reading {
        index,
        time_us: time_us.unwrap_or(received_at_us.saturating_add(i64::from(index))),
        timed: time_us.is_some(),
        bytes: text.as_bytes(),
        content: Content::Json { cells, extra },
    })
}

fn cell(field: &Field, value: Value) -> Result<Cell, String> {
    let found = match (field.kind, value) {
        (_, Value::Null) => Some(Cell::Null),
        (Kind::Boolean, Value::Bool(value)) => Some(Cell::Boolean(value)),
        (Kind::Int, Value::Number(number)) => {
            whole(&number).filter(|value| i32::try_from(*value).is_ok()).map(Cell::Integer)
        }
        (Kind::Long | Kind::Time, Value::Number(number)) => whole(&number).map(Cell::Integer),
        (Kind::Time, Value::String(text)) => Some(Cell::Integer(parse_time(&text)?)),
        (Kind::Float, Value::Number(number)) => {
            number.as_f64().filter(|value| (*value as f32).is_finite()).map(Cell::Float)
        }
        (Kind::Double, Value::Number(number)) => {
            number.as_f64().filter(|value| value.is_finite()).map(Cell::Float)
        }
        (Kind::Text, Value::String(text)) => Some(Cell::Text(text)),
        (_, value) => {
            return Err(format!(
                "field `{}` is {}, wanted {}",
                field.name,
                name_of(&value),
                field.kind.avro_name()
            ));
        }
    };
    found
        .ok_or_else(|| format!("field `{}` holds a number that is no {}", field.name, field.kind.avro_name()))
}

/// The number as an integer; `12.0` counts as one, as many devices know floats only.
fn whole(number: &serde_json::Number) -> Option<i64> {
    /// Floats hold every integer up to 2^53.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() <= EXACT).map(|value| value as i64)
    })
}

/// RFC 3339 text with an offset; what is finer than microseconds is cut.
fn parse_time(text: &str) -> Result<i64, String> {
    DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_micros()).map_err(|_| {
        let text: String = text.chars().take(40).collect();
        format!(
            "field `time` is `{text}`, wanted RFC 3339 with an offset (2026-11-22T08:30:00Z) or microseconds"
        )
    })
}

fn no_json(error: &serde_json::Error) -> String {
    format!("it is no JSON: {error}")
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
