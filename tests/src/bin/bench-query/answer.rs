//! Answers as plain values, so that those of different databases can be compared.

use anyhow::{Context, bail};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Date32Type, Float64Type, TimeUnit, TimestampMicrosecondType},
};
use serde::Deserialize;

/// Sums of the same doubles in another order differ in their last digits.
const TOLERANCE: f64 = 1e-9;

/// One value: times in microseconds, dates in days.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

/// The values of each column.
pub type Columns = Vec<Vec<Value>>;

/// Batches as values.
pub fn columns(batches: &[RecordBatch]) -> anyhow::Result<Columns> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let rows = arrow::compute::concat_batches(&first.schema(), batches)?;
    rows.columns().iter().map(|column| values(column.as_ref())).collect()
}

fn values(column: &dyn Array) -> anyhow::Result<Vec<Value>> {
    let wanted = match column.data_type() {
        DataType::Boolean => {
            return Ok(column.as_boolean().iter().map(|v| v.map_or(Value::Null, Value::Bool)).collect());
        }
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Date32 => DataType::Date32,
        kind if kind.is_numeric() => DataType::Float64,
        DataType::Utf8 | DataType::Utf8View | DataType::Dictionary(..) | DataType::LargeUtf8 => {
            DataType::Utf8
        }
        DataType::Null => return Ok(vec![Value::Null; column.len()]),
        other => bail!("no column of type {other} was expected"),
    };
    let column = cast(column, &wanted)?;
    let number = |value: Option<f64>| value.map_or(Value::Null, Value::Number);
    Ok(match wanted {
        DataType::Timestamp(..) => column
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .map(|v| number(v.map(|v| v as f64)))
            .collect(),
        DataType::Date32 => {
            column.as_primitive::<Date32Type>().iter().map(|v| number(v.map(f64::from))).collect()
        }
        DataType::Float64 => column.as_primitive::<Float64Type>().iter().map(number).collect(),
        _ => {
            let text = |value: Option<&str>| value.map_or(Value::Null, |value| Value::Text(value.to_owned()));
            column.as_string::<i32>().iter().map(text).collect()
        }
    })
}

/// Checks that two answers say the same.
pub fn check_equal(ours: &Columns, theirs: &Columns) -> anyhow::Result<()> {
    if ours.len() != theirs.len() {
        bail!("{} columns here, {} there", ours.len(), theirs.len());
    }
    for (number, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        if ours.len() != theirs.len() {
            bail!("{} rows here, {} there", ours.len(), theirs.len());
        }
        let other = ours.iter().zip(theirs).position(|(one, other)| !alike(one, other));
        if let Some(row) = other {
            let (one, other) = (ours.get(row), theirs.get(row));
            return Err(anyhow::anyhow!("{one:?} here, {other:?} there"))
                .with_context(|| format!("column {number}, row {row} of {}", ours.len()));
        }
    }
    Ok(())
}

fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => (one - other).abs() <= TOLERANCE * one.abs().max(1.0),
        (one, other) => one == other,
    }
}
