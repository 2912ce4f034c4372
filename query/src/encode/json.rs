//! `{"columns":[{"name","type"}],"rows":[[…]]}`: small, and the columns keep their order.

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, SchemaRef},
    json::{StructMode, Writer, WriterBuilder, writer::JsonArray},
};
use serde_json::json;

use super::Encoder;
use crate::Error;

/// Writes one JSON object.
pub struct Json {
    rows: Writer<Vec<u8>, JsonArray>,
    /// What goes before and after the rows, which are written by somebody else.
    before: Option<Vec<u8>>,
    after: Vec<u8>,
    bytes: Vec<u8>,
}

impl Json {
    /// Begins an answer with these columns.
    pub fn new(columns: &SchemaRef) -> Json {
        Json::with_members(columns, "")
    }

    /// The same with further members behind the rows, as JSON text that begins with a comma.
    pub fn with_members(columns: &SchemaRef, members: &str) -> Json {
        let described = columns
            .fields()
            .iter()
            .map(|field| json!({ "name": field.name(), "type": type_name(field.data_type()) }));
        let described = serde_json::Value::from_iter(described);
        let before = format!("{{\"columns\":{described},\"rows\":").into_bytes();
        let rows = WriterBuilder::new().with_explicit_nulls(true).with_struct_mode(StructMode::ListOnly);
        let after = format!("{members}}}\n").into_bytes();
        Json { rows: rows.build(Vec::new()), before: Some(before), after, bytes: Vec::new() }
    }
}

impl Encoder for Json {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.rows.write(rows)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.rows.finish()?;
        let after = std::mem::take(&mut self.after);
        self.rows.get_mut().extend(after);
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        self.bytes.extend(self.before.take().unwrap_or_default());
        self.bytes.append(self.rows.get_mut());
        std::mem::take(&mut self.bytes)
    }
}

/// A column's type as Postgres calls it; Arrow's own name where Postgres has none.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 => "bigint",
        DataType::UInt64 => "numeric",
        DataType::Float64 => "double precision",
        DataType::Float32 => "real",
        DataType::Boolean => "boolean",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "bytea"
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => "numeric",
        DataType::Dictionary(_, values) => return type_name(values),
        other => return other.to_string(),
    }
    .to_owned()
}
