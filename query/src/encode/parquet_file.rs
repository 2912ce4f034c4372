//! A Parquet file, sent row group by row group.

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

use super::{Encoder, cast_to, without_views};
use crate::Error;

/// Rows of a row group; one is held in memory until it is sent: about 100 bytes a row make 13 MB.
const ROW_GROUP_ROWS: usize = 131_072;

/// Writes a Parquet file.
pub struct ParquetFile {
    columns: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
}

impl ParquetFile {
    /// Begins a file with these columns.
    pub fn new(columns: &SchemaRef) -> Result<ParquetFile, Error> {
        let columns = without_views(columns);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), columns.clone(), Some(properties)).map_err(refused)?;
        Ok(ParquetFile { columns, writer })
    }
}

impl Encoder for ParquetFile {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.writer.write(&cast_to(rows, &self.columns)?).map_err(refused)
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.writer.finish().map(|_| ()).map_err(refused)
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }
}

fn refused(error: ParquetError) -> Error {
    Error::NotAcceptable(format!("the answer does not fit into a Parquet file: {error}"))
}
