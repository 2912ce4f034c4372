//! A row as a device id and a JSON reading; pure, so that the same row always makes the same bytes.

use std::{io::Write, str::FromStr};

use chrono::DateTime;
use serde_json::value::RawValue;
use zeugma_schemas::{id::is_id_char, limits::ID_LEN_MAX};

use super::{rows::Cell, time::Clock};

/// Integers up to here are the same as `f64` and as text.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// One `--map field=column[*factor]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Name in the domain's schema.
    pub name: String,
    /// Column of the file.
    pub column: String,
    /// What its numbers are multiplied by.
    pub factor: Option<f64>,
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Field, String> {
        let wrong = || format!("'{text}' is not field=column or field=column*factor");
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        // A column's own name may hold a star: only a number after the last one is a factor.
        let product =
            value.rsplit_once('*').and_then(|(column, factor)| Some((column, factor.parse().ok()?)));
        let (column, factor) = match product {
            Some((column, factor)) if f64::is_finite(factor) => (column, Some(factor)),
            _ => (value, None),
        };
        if name.is_empty() || column.is_empty() {
            return Err(wrong());
        }
        Ok(Field { name: name.to_owned(), column: column.to_owned(), factor })
    }
}

/// How the cells of a row become a reading.
#[derive(Debug, Clone)]
pub struct Mapping {
    clock: Clock,
    fields: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    /// `"name":`, ready to be written.
    key: Vec<u8>,
    factor: Option<f64>,
    text: bool,
}

impl Mapping {
    /// A mapping that sends the fields named in `texts` as texts, whatever they look like.
    pub fn new(clock: Clock, fields: &[Field], texts: &[String]) -> Mapping {
        let rule = |field: &Field| Rule {
            key: [quoted(&field.name).into_bytes(), b":".to_vec()].concat(),
            factor: field.factor,
            text: texts.contains(&field.name),
        };
        Mapping { clock, fields: fields.iter().map(rule).collect() }
    }

    /// The reading as a JSON object, and its time where it has one (microseconds since 1970).
    ///
    /// A time or a value that is not what it should be goes out as the text it is, never left out or guessed:
    /// the server keeps such readings among its dead letters.
    pub fn reading(&self, time: &Cell, cells: &[Cell]) -> (Vec<u8>, Option<i64>) {
        let mut json = Vec::with_capacity(128);
        json.extend_from_slice(b"{\"time\":");
        let time_us = self.time(time);
        match time_us {
            Some(time_us) => json.extend_from_slice(time_us.to_string().as_bytes()),
            None => json.extend_from_slice(quoted(&raw(time)).as_bytes()),
        }
        for (rule, cell) in self.fields.iter().zip(cells) {
            if let Some(value) = value(cell, rule) {
                json.push(b',');
                json.extend_from_slice(&rule.key);
                json.extend_from_slice(value.as_bytes());
            }
        }
        json.push(b'}');
        (json, time_us)
    }

    fn time(&self, cell: &Cell) -> Option<i64> {
        match cell {
            Cell::Raw(text) | Cell::Text(text) | Cell::Number(text) => self.clock.read(text.trim()),
            Cell::Instant(time_us) => Some(*time_us),
            Cell::Local(time_us) => {
                self.clock.read_local(DateTime::from_timestamp_micros(*time_us)?.naive_utc())
            }
            Cell::Empty | Cell::Boolean(_) | Cell::Json(_) => None,
        }
    }
}

/// A device's name as an id: every character outside the alphabet of ids becomes `-`.
pub fn device_id(name: &str) -> Result<String, String> {
    let id: String =
        name.chars().map(|c| if c.is_ascii() && is_id_char(c as u8) { c } else { '-' }).collect();
    match id.len() {
        0 => Err("a device without a name".to_owned()),
        1..=ID_LEN_MAX => Ok(id),
        _ => Err(format!("device '{name}' has a name of more than {ID_LEN_MAX} characters")),
    }
}

/// The cell as the text it was read from.
pub fn raw(cell: &Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Raw(text) | Cell::Text(text) | Cell::Number(text) | Cell::Json(text) => text.clone(),
        Cell::Boolean(value) => value.to_string(),
        Cell::Instant(number) | Cell::Local(number) => number.to_string(),
    }
}

fn value(cell: &Cell, rule: &Rule) -> Option<String> {
    if rule.text && *cell != Cell::Empty {
        return Some(quoted(&raw(cell)));
    }
    match cell {
        Cell::Empty => None,
        Cell::Raw(text) => Some(untyped(text, rule.factor)),
        Cell::Text(text) => Some(quoted(text)),
        Cell::Number(number) => Some(scaled(number, rule.factor).unwrap_or_else(|| quoted(number))),
        Cell::Boolean(_) | Cell::Json(_) | Cell::Instant(_) | Cell::Local(_) => Some(raw(cell)),
    }
}

fn untyped(text: &str, factor: Option<f64>) -> String {
    let trimmed = text.trim();
    match trimmed {
        "true" | "false" => trimmed.to_owned(),
        _ if is_json_number(trimmed) => scaled(trimmed, factor).unwrap_or_else(|| quoted(text)),
        _ => quoted(text),
    }
}

fn is_json_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<&RawValue>(text).is_ok()
}

/// The number, multiplied; `None` where it is, or becomes, too large for a double.
fn scaled(number: &str, factor: Option<f64>) -> Option<String> {
    let value: f64 = number.parse().ok().filter(|value: &f64| value.is_finite())?;
    let Some(factor) = factor else { return Some(number.to_owned()) };
    let product = value * factor;
    if !product.is_finite() {
        return None;
    }
    // A whole product is spelled as an integer, so that it fits fields of whole numbers too.
    if product.fract() == 0.0 && product.abs() <= EXACT_INTEGER_MAX {
        return Some((product as i64).to_string());
    }
    Some(format!("{product:?}"))
}

fn quoted(text: &str) -> String {
    let mut json = Vec::with_capacity(text.len() + 2);
    serde_json::to_writer(json.by_ref(), text).expect("text into memory");
    String::from_utf8(json).expect("JSON of a text is UTF-8")
}

#[cfg(test)]
mod tests;
