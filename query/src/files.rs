//! How the engine reads the lake's files: their footers and page indexes are read once, and then known.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use datafusion::{
    common::Result,
    datasource::{
        listing::PartitionedFile,
        physical_plan::parquet::{ParquetFileReaderFactory, metadata::DFParquetMetadata},
    },
    execution::cache::cache_manager::FileMetadataCache,
    physical_plan::metrics::ExecutionPlanMetricsSet,
};
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectMeta, ObjectStore};
use parquet::{
    arrow::{arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
    errors::{ParquetError, Result as ParquetResult},
    file::metadata::{PageIndexPolicy, ParquetMetaData},
};
use zeugma_lake::find::Reader;

/// Opens files of a store. The engine's own factory keeps footers alone and reads the page index of a file for each
/// question again, which takes longer than the pages that it leads to.
#[derive(Debug)]
pub struct Files {
    /// Where they lie.
    pub store: Arc<dyn ObjectStore>,
    /// What is known of them.
    pub cache: Arc<FileMetadataCache>,
}

struct File {
    reader: Reader,
    cache: Arc<FileMetadataCache>,
    meta: ObjectMeta,
    /// Bytes at its end that are read at once, as the footer is among them.
    end_bytes: Option<usize>,
}

impl ParquetFileReaderFactory for Files {
    fn create_reader(
        &self,
        _partition: usize,
        file: PartitionedFile,
        end_bytes: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let meta = file.object_meta;
        let reader = Reader { store: self.store.clone(), path: meta.location.clone(), size: meta.size };
        Ok(Box::new(File { reader, cache: self.cache.clone(), meta, end_bytes }))
    }
}

impl AsyncFileReader for File {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.reader.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.reader.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let metadata = DFParquetMetadata::new(self.reader.store.as_ref(), &self.meta)
                .with_file_metadata_cache(Some(self.cache.clone()))
                .with_metadata_size_hint(self.end_bytes)
                .with_page_index_policy(Some(PageIndexPolicy::Optional));
            metadata.fetch_metadata().await.map_err(|error| ParquetError::External(Box::new(error)))
        }
        .boxed()
    }
}
