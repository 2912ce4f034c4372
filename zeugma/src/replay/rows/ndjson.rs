//! NDJSON: a JSON object on each line; numbers keep their spelling, so no digit is lost on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read},
};

use anyhow::Context;
use serde_json::value::RawValue;

use super::{Cell, Row, Rows};

/// Longest line taken: four times the largest payload, as a row may hold much that is not mapped.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Every key that occurs on any line.
pub fn columns(file: Box<dyn Read>) -> anyhow::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for line in lines(file) {
        let (number, line) = line?;
        names.extend(object(number, &line)?.into_keys());
    }
    Ok(names.into_iter().collect())
}

/// The rows; blank lines are passed over.
pub fn rows(file: Box<dyn Read>, wanted: &[String]) -> Rows {
    let wanted = wanted.to_vec();
    Box::new(lines(file).map(move |line| {
        let (number, line) = line?;
        let object = object(number, &line)?;
        let cell = |column: &String| object.get(column).map_or(Cell::Empty, |value| cell(value));
        Ok(Row { line: number, cells: wanted.iter().map(cell).collect() })
    }))
}

fn lines(file: Box<dyn Read>) -> impl Iterator<Item = anyhow::Result<(u64, String)>> {
    let mut file = BufReader::new(file);
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            match (&mut file).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line) {
                Err(error) => return Some(Err(error.into())),
                Ok(0) => return None,
                Ok(_) => number += 1,
            }
            if line.len() as u64 > LINE_BYTES_MAX {
                return Some(Err(anyhow::anyhow!("line {number} is longer than {LINE_BYTES_MAX} bytes")));
            }
            if !line.trim_ascii().is_empty() {
                return Some(Ok((number, String::from_utf8_lossy(&line).into_owned())));
            }
        }
    })
}

fn object(number: u64, line: &str) -> anyhow::Result<BTreeMap<String, &RawValue>> {
    serde_json::from_str(line).with_context(|| format!("line {number} is no JSON object"))
}

fn cell(value: &RawValue) -> Cell {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'n') | None => Cell::Empty,
        Some(b't') => Cell::Boolean(true),
        Some(b'f') => Cell::Boolean(false),
        // A lone surrogate escape is valid to the grammar and no text: it goes on as it stands.
        Some(b'"') => serde_json::from_str(json).map_or_else(|_| Cell::Json(json.to_owned()), Cell::Text),
        Some(b'[' | b'{') => Cell::Json(json.to_owned()),
        Some(_) => Cell::Number(json.to_owned()),
    }
}
