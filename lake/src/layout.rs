//! How rows lie in files: sorted, each column encoded as suits it.
//!
//! Sorted by (tenant, date, device, time), one tenant's question touches few pages. Times and integers are
//! delta-packed, counters split into byte streams, texts and measured values are dictionaries, all of it zstd:
//! smaller and quicker to write than the default (docs/decisions/0004-layout.md has the measurement).

use std::collections::{BTreeMap, HashMap};

use arrow::{
    array::{Array, AsArray, RecordBatch, StringViewArray, UInt32Array},
    compute::{concat_batches, take_record_batch},
    datatypes::{DataType, Date32Type, Field, Schema, SchemaRef, TimestampMicrosecondType},
    error::ArrowError,
};
use bytes::Bytes;
use chrono::NaiveDate;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding, ZstdLevel},
    file::properties::{WriterProperties, WriterPropertiesBuilder},
    schema::types::ColumnPath,
};
use serde_json::Value;

pub use self::statistics::Statistics;
use crate::{Error, table::DATE};

mod statistics;

/// Rows of a row group: large enough to compress, small enough that two are read in parallel.
pub(crate) const ROW_GROUP_ROWS: usize = 262_144;

/// A dictionary of measured values: sensors round, so that many have few thousands of them, and vehicles stop at the
/// same places. It is read with the first page that is, so it is no larger than two pages are.
const DICTIONARY_BYTES_MAX: usize = 128 << 10;

/// Rows of a page: the least that a question about one device reads.
pub(crate) const PAGE_ROWS: usize = 8_192;

/// Columns that rows are sorted by, as far as a table has them: up to three texts, and up to two times. A tenant's
/// date stands together however many dates a file has, so a question about a day reads no more of a long file than
/// of a short one.
pub(crate) const SORT: [&str; 6] = ["tenant", DATE, "device", "topic", "time", "received_at"];

/// One date's rows as a Parquet file, not written yet.
#[derive(Debug)]
pub struct Encoded {
    /// The UTC date, days since 1970.
    pub date: i32,
    /// The file.
    pub bytes: Bytes,
    /// How many rows it has.
    pub rows: usize,
    /// Statistics as the Delta log has them (Delta protocol, "Per-file Statistics").
    pub stats: Value,
}

/// Sorts rows and lays them into one file for each date.
///
/// # Errors
/// [`Error::Arrow`] or [`Error::Parquet`] where rows are not in the columns of a table.
pub fn encode(columns: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<Encoded>, Error> {
    let rows = concat_batches(columns, batches)?;
    let dates = rows.column_by_name(DATE).ok_or_else(|| Error::Internal("rows without date".into()))?;
    let dates = dates.as_primitive::<Date32Type>();
    let mut by_date: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for row in order(&rows) {
        by_date.entry(dates.value(row as usize)).or_default().push(row);
    }
    let in_order = |(date, order)| Ok((date, take_record_batch(&rows, &UInt32Array::from(order))?));
    let dates = by_date.into_iter().map(in_order).collect::<Result<Vec<_>, Error>>()?;
    // One copy of the rows is enough while they are encoded.
    drop(rows);
    dates.into_iter().map(|(date, rows)| encode_date(date, &rows)).collect()
}

fn encode_date(date: i32, rows: &RecordBatch) -> Result<Encoded, Error> {
    let mut writer =
        ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties(&rows.schema(), Lasting::Soon)))?;
    writer.write(rows)?;
    let bytes = writer.into_inner()?.into();
    let mut statistics = Statistics::default();
    statistics.add(rows);
    Ok(Encoded { date, bytes, rows: rows.num_rows(), stats: statistics.to_json() })
}

/// A date as text, `2026-11-22`.
pub(crate) fn date_text(date: i32) -> String {
    (NaiveDate::default() + chrono::TimeDelta::days(date.into())).to_string()
}

/// The columns but `date`, which no device has said.
pub fn without_date(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let stored: Vec<usize> =
        (0..rows.num_columns()).filter(|column| rows.schema().field(*column).name() != DATE).collect();
    rows.project(&stored)
}

/// The rows' numbers in the order of [`SORT`] but for the date, missing texts first. Texts are few and rows are
/// many, so each row is compared by the rank of its texts, and by its times.
fn order(rows: &RecordBatch) -> Vec<u32> {
    let columns = || SORT.iter().filter_map(|name| rows.column_by_name(name));
    let texts: Vec<_> = columns().filter_map(|column| column.as_string_view_opt()).collect();
    let times = columns().filter_map(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let times: Vec<_> = times.map(|column| column.values()).collect();
    let ranks = ranks(&texts, rows.num_rows());
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    let time = |column: usize, row: u32| times.get(column).map(|times| times[row as usize]);
    order.sort_by_cached_key(|row| (ranks[*row as usize], time(0, *row), time(1, *row)));
    order
}

/// For each row, how many different texts come before its own.
fn ranks(texts: &[&StringViewArray], rows: usize) -> Vec<usize> {
    let of_row = |row: usize| {
        let text = |at: usize| texts.get(at).filter(|text| text.is_valid(row)).map(|text| text.value(row));
        [text(0), text(1), text(2)]
    };
    let mut numbers: HashMap<[Option<&str>; 3], usize> = HashMap::new();
    let found: Vec<usize> = (0..rows)
        .map(|row| {
            let next = numbers.len();
            *numbers.entry(of_row(row)).or_insert(next)
        })
        .collect();
    let mut sorted: Vec<_> = numbers.into_iter().collect();
    sorted.sort_unstable();
    let mut ranks = vec![0; sorted.len()];
    sorted.iter().enumerate().for_each(|(rank, (_, number))| ranks[*number] = rank);
    found.into_iter().map(|number| ranks[number]).collect()
}

/// How long a file lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// Until its date is compacted: it is written quickly, as devices keep the machine busy.
    Soon,
    /// For years: it is written small.
    Years,
}

/// How the columns of a file are encoded.
pub(crate) fn properties(columns: &Schema, lasting: Lasting) -> WriterProperties {
    let level = match lasting {
        Lasting::Soon => 1,
        Lasting::Years => 3,
    };
    let builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level).expect("zstd has levels 1 to 22")))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_created_by(concat!("zeugma ", env!("CARGO_PKG_VERSION")).to_owned());
    columns.fields().iter().fold(builder, |builder, field| encoding(builder, field, lasting)).build()
}

fn encoding(builder: WriterPropertiesBuilder, field: &Field, lasting: Lasting) -> WriterPropertiesBuilder {
    let column = ColumnPath::from(field.name().as_str());
    let (encoding, dictionary) = match field.data_type() {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Int64 | DataType::Int32 => {
            (Encoding::DELTA_BINARY_PACKED, false)
        }
        DataType::Float64 | DataType::Float32 => (
            Encoding::BYTE_STREAM_SPLIT,
            lasting == Lasting::Years && !field.metadata().contains_key("counter"),
        ),
        _ => return builder,
    };
    let builder = builder.set_column_encoding(column.clone(), encoding);
    if !dictionary {
        return builder.set_column_dictionary_enabled(column, false);
    }
    // The encoding is for what comes when the dictionary of a row group is full.
    builder.set_column_dictionary_page_size_limit(column, DICTIONARY_BYTES_MAX)
}

/// The same rows in other columns: those it lacks are null, those not asked for are left out.
///
/// # Errors
/// [`Error::Arrow`] where a column of the same name has a type that cannot become the wanted one.
pub fn conform(rows: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch, Error> {
    if rows.schema_ref() == columns {
        return Ok(rows.clone());
    }
    let values = columns.fields().iter().map(|field| match rows.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        Some(column) => arrow::compute::cast(column, field.data_type()),
        None => Ok(arrow::array::new_null_array(field.data_type(), rows.num_rows())),
    });
    let values = values.collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(columns.clone(), values)?)
}

#[cfg(test)]
mod tests;
