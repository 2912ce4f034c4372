//! Parquet files: flat columns with their types; timestamps tell whether they are UTC.

use std::{fs::File, sync::Arc};

use ::parquet::{
    basic::{ConvertedType, LogicalType, TimeUnit},
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, reader::RowIter},
    schema::types::Type,
};

use super::{Cell, Row, Rows};

/// What a 64-bit integer of a column counts, where it is not a plain number.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    utc: bool,
    unit: TimeUnit,
}

/// The names of the columns.
pub fn columns(file: File) -> anyhow::Result<Vec<String>> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema();
    Ok(schema.get_fields().iter().map(|field| field.name().to_owned()).collect())
}

/// The rows; only the wanted columns are read.
pub fn rows(file: File, wanted: &[String]) -> anyhow::Result<Rows> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema().clone();
    let fields: Vec<Arc<Type>> = schema
        .get_fields()
        .iter()
        .filter(|field| wanted.iter().any(|name| name == field.name()))
        .cloned()
        .collect();
    let stamps: Vec<Option<Stamp>> = fields.iter().map(|field| stamp(field)).collect();
    let places: Vec<Option<usize>> =
        wanted.iter().map(|name| fields.iter().position(|field| field.name() == name)).collect();
    let projection = Type::group_type_builder(schema.name()).with_fields(fields).build()?;
    let iter = RowIter::from_file_into(Box::new(reader)).project(Some(projection))?;
    Ok(Box::new(iter.zip(1..).map(move |(row, line)| {
        let row = row?;
        let values: Vec<Cell> =
            row.get_column_iter().zip(&stamps).map(|((_, field), stamp)| cell(field, *stamp)).collect();
        let pick = |place: &Option<usize>| place.map_or(Cell::Empty, |place| values[place].clone());
        Ok(Row { line, cells: places.iter().map(pick).collect() })
    })))
}

fn stamp(column: &Type) -> Option<Stamp> {
    let info = column.get_basic_info();
    match info.logical_type_ref() {
        Some(LogicalType::Timestamp(kind)) => {
            return Some(Stamp { utc: kind.is_adjusted_to_u_t_c, unit: kind.unit });
        }
        Some(_) => return None,
        None => {}
    }
    // Writers from before logical types: the converted types mean UTC.
    match info.converted_type() {
        ConvertedType::TIMESTAMP_MILLIS => Some(Stamp { utc: true, unit: TimeUnit::MILLIS }),
        ConvertedType::TIMESTAMP_MICROS => Some(Stamp { utc: true, unit: TimeUnit::MICROS }),
        _ => None,
    }
}

fn cell(field: &Field, stamp: Option<Stamp>) -> Cell {
    match (field, stamp) {
        (Field::TimestampMillis(count) | Field::TimestampMicros(count) | Field::Long(count), Some(stamp)) => {
            moment(*count, stamp)
        }
        // INT96 holds a time on the wall by Hive and one in UTC by Spark: the file does not tell.
        (Field::TimestampMillis(count), None) => moment(*count, Stamp { utc: false, unit: TimeUnit::MILLIS }),
        (Field::Null, _) => Cell::Empty,
        (Field::Bool(value), _) => Cell::Boolean(*value),
        (Field::Str(text), _) => Cell::Text(text.clone()),
        (Field::Float(value), _) => float(f64::from(*value)),
        (Field::Double(value), _) => float(*value),
        (
            Field::Byte(_)
            | Field::Short(_)
            | Field::Int(_)
            | Field::Long(_)
            | Field::UByte(_)
            | Field::UShort(_)
            | Field::UInt(_)
            | Field::ULong(_),
            _,
        ) => Cell::Number(field.to_string()),
        (Field::Decimal(_), _) => Cell::Number(field.to_string()),
        (Field::Bytes(bytes), _) => Cell::Text(String::from_utf8_lossy(bytes.data()).into_owned()),
        (other, _) => Cell::Text(other.to_string()),
    }
}

fn moment(count: i64, stamp: Stamp) -> Cell {
    let time_us = match stamp.unit {
        TimeUnit::MILLIS => count.saturating_mul(1000),
        TimeUnit::MICROS => count,
        TimeUnit::NANOS => count.div_euclid(1000),
    };
    if stamp.utc { Cell::Instant(time_us) } else { Cell::Local(time_us) }
}

/// JSON has no spelling for infinity and not-a-number: they go out as texts.
fn float(value: f64) -> Cell {
    if value.is_finite() { Cell::Number(format!("{value:?}")) } else { Cell::Text(value.to_string()) }
}
