//! One JSON object for each row, a line each: what command-line tools read.

use arrow::{
    array::RecordBatch,
    json::{Writer, WriterBuilder, writer::LineDelimited},
};

use super::Encoder;
use crate::Error;

/// Writes JSON lines.
pub struct Ndjson(Writer<Vec<u8>, LineDelimited>);

impl Ndjson {
    /// Begins an answer.
    pub fn new() -> Ndjson {
        Ndjson(WriterBuilder::new().with_explicit_nulls(true).build(Vec::new()))
    }
}

impl Encoder for Ndjson {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        Ok(self.0.write(rows)?)
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(self.0.finish()?)
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.0.get_mut())
    }
}
