//! Arrow's IPC stream: for programs, without any conversion on their side.

use arrow::{array::RecordBatch, datatypes::SchemaRef, ipc::writer::StreamWriter};

use super::{Encoder, cast_to, without_views};
use crate::Error;

/// Writes an Arrow stream.
pub struct ArrowStream {
    columns: SchemaRef,
    writer: StreamWriter<Vec<u8>>,
}

impl ArrowStream {
    /// Begins an answer with these columns.
    pub fn new(columns: &SchemaRef) -> Result<ArrowStream, Error> {
        let columns = without_views(columns);
        let writer = StreamWriter::try_new(Vec::new(), &columns)?;
        Ok(ArrowStream { columns, writer })
    }
}

impl Encoder for ArrowStream {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        Ok(self.writer.write(&cast_to(rows, &self.columns)?)?)
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(self.writer.finish()?)
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }
}
