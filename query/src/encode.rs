//! Rows become bytes in the form that was asked for, batch by batch.

mod arrow_stream;
mod csv;
mod json;
mod ndjson;
mod parquet_file;

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};

pub use json::type_name;

use crate::Error;

/// The forms of an answer, in the order in which they are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One object: columns, then rows as arrays.
    Json,
    /// One object for each row, a line each.
    Ndjson,
    /// A header, and a line for each row.
    Csv,
    /// Arrow's IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

/// Writes the rows of one answer; bytes gather until they are taken.
pub trait Encoder: Send {
    /// Adds rows.
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error>;
    /// Ends the answer.
    fn finish(&mut self) -> Result<(), Error>;
    /// What was written since the last time.
    fn take(&mut self) -> Vec<u8>;
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 5] = [Form::Json, Form::Ndjson, Form::Csv, Form::Arrow, Form::Parquet];

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Ndjson => "application/x-ndjson",
            Form::Csv => "text/csv",
            Form::Arrow => "application/vnd.apache.arrow.stream",
            Form::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// An encoder of rows with these columns.
    ///
    /// # Errors
    /// [`Error::NotAcceptable`] where the form cannot hold a column.
    pub fn encoder(self, columns: &SchemaRef) -> Result<Box<dyn Encoder>, Error> {
        Ok(match self {
            Form::Json => Box::new(json::Json::new(columns)),
            Form::Ndjson => Box::new(ndjson::Ndjson::new()),
            Form::Csv => Box::new(csv::Csv::new(columns)?),
            Form::Arrow => Box::new(arrow_stream::ArrowStream::new(columns)?),
            Form::Parquet => Box::new(parquet_file::ParquetFile::new(columns)?),
        })
    }
}

/// One page as JSON, and where the next one begins.
pub fn json_page(rows: &RecordBatch, next: Option<&str>) -> Result<Vec<u8>, Error> {
    let next = serde_json::Value::from(next);
    let mut json = json::Json::with_members(rows.schema_ref(), &format!(",\"next\":{next}"));
    json.write(rows)?;
    json.finish()?;
    Ok(json.take())
}

/// Columns as other people's readers know them: text and bytes without views.
fn without_views(columns: &SchemaRef) -> SchemaRef {
    let fields = columns.fields().iter().map(|field| {
        let data_type = match field.data_type() {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            other => other.clone(),
        };
        Field::clone(field).with_data_type(data_type)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The same rows in columns of [`without_views`].
fn cast_to(rows: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch, Error> {
    let values = rows.columns().iter().zip(columns.fields());
    let values = values.map(|(values, field)| match values.data_type() == field.data_type() {
        true => Ok(values.clone()),
        false => arrow::compute::cast(values, field.data_type()),
    });
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(columns.clone(), values.collect::<Result<_, _>>()?, &options)?)
}

#[cfg(test)]
mod tests;
