//! Comma-separated values with a header (RFC 4180); an empty field is null.

use arrow::{array::RecordBatch, csv::WriterBuilder, datatypes::SchemaRef};

use super::Encoder;
use crate::Error;

/// Writes CSV.
pub struct Csv {
    columns: SchemaRef,
    begun: bool,
    bytes: Vec<u8>,
}

impl Csv {
    /// Begins an answer with these columns.
    ///
    /// # Errors
    /// [`Error::NotAcceptable`] where a column holds more than one value in a row.
    pub fn new(columns: &SchemaRef) -> Result<Csv, Error> {
        match columns.fields().iter().find(|field| field.data_type().is_nested()) {
            Some(field) => Err(Error::NotAcceptable(format!(
                "column `{}` holds lists or records, which CSV cannot; ask for application/json",
                field.name()
            ))),
            None => Ok(Csv { columns: columns.clone(), begun: false, bytes: Vec::new() }),
        }
    }
}

impl Encoder for Csv {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let header = !std::mem::replace(&mut self.begun, true);
        WriterBuilder::new().with_header(header).build(&mut self.bytes).write(rows)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        match self.begun {
            true => Ok(()),
            false => self.write(&RecordBatch::new_empty(self.columns.clone())),
        }
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
