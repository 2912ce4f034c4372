//! CSV (RFC 4180): with or without a header line; cells have no types.

use std::io::Read;

use ::csv::{ByteRecord, ReaderBuilder};

use super::{Cell, Row, Rows};

/// The header line, or the names given instead of one.
pub fn columns(file: Box<dyn Read>, header: Option<&[String]>) -> anyhow::Result<Vec<String>> {
    if let Some(names) = header {
        return Ok(names.to_vec());
    }
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(file);
    Ok(reader.byte_headers()?.iter().map(text).collect())
}

/// The rows; a short row gives empty cells, so that it is judged alone and not with its file.
pub fn rows(file: Box<dyn Read>, header: Option<&[String]>, wanted: &[String]) -> anyhow::Result<Rows> {
    let mut reader = ReaderBuilder::new().flexible(true).has_headers(header.is_none()).from_reader(file);
    let names: Vec<String> = match header {
        Some(names) => names.to_vec(),
        None => reader.byte_headers()?.iter().map(text).collect(),
    };
    let places: Vec<Option<usize>> =
        wanted.iter().map(|column| names.iter().position(|name| name == column)).collect();
    let mut record = ByteRecord::new();
    Ok(Box::new(std::iter::from_fn(move || match reader.read_byte_record(&mut record) {
        Ok(true) => Some(Ok(row(&record, &places))),
        Ok(false) => None,
        Err(error) => Some(Err(error.into())),
    })))
}

fn row(record: &ByteRecord, places: &[Option<usize>]) -> Row {
    let cell = |place: &Option<usize>| match place.and_then(|place| record.get(place)) {
        Some(bytes) if !bytes.trim_ascii().is_empty() => Cell::Raw(text(bytes)),
        _ => Cell::Empty,
    };
    let line = record.position().map_or(0, ::csv::Position::line);
    Row { line, cells: places.iter().map(cell).collect() }
}

/// Bytes that are not UTF-8 become replacement characters: the rest of the row is still good.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
