//! Rows looked up by their keys: one scan of the key columns for each date, the rest only for what is found.

use std::{collections::HashSet, ops::Range, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Date32Array, RecordBatch, StringViewArray,
        TimestampMicrosecondArray,
    },
    compute::cast,
    datatypes::{DataType, SchemaRef, TimestampMicrosecondType},
    error::ArrowError,
};
use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future::BoxFuture};
use object_store::{ObjectStore, path::Path};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{ArrowPredicateFn, ArrowReaderOptions, RowFilter},
        async_reader::AsyncFileReader,
    },
    errors::{ParquetError, Result as ParquetResult},
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

use crate::{
    Error, Snapshot, Table,
    layout::{self, PAGE_ROWS},
    snapshot::DataFile,
    table::PARTITION,
};

/// The columns that identify a row.
const KEY: [&str; 3] = ["tenant", "device", "time"];

/// What identifies a row within a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The tenant.
    pub tenant: String,
    /// The device.
    pub device: String,
    /// The time, microseconds since 1970.
    pub time_us: i64,
}

/// The rows that have one of these keys, from files of a store. A file that cannot hold any costs no I/O.
pub async fn find<'a>(
    store: &Arc<dyn ObjectStore>,
    files: impl Iterator<Item = &'a DataFile>,
    columns: &SchemaRef,
    keys: &Arc<HashSet<Key>>,
) -> Result<Vec<RecordBatch>, Error> {
    let mut found = Vec::new();
    for file in files.filter(|file| may_hold(file, keys)) {
        found.extend(find_in(store, file, columns, keys.clone()).await?);
    }
    Ok(found)
}

async fn find_in(
    store: &Arc<dyn ObjectStore>,
    file: &DataFile,
    columns: &SchemaRef,
    keys: Arc<HashSet<Key>>,
) -> Result<Vec<RecordBatch>, Error> {
    let builder = open(store, file).await?;
    let key_columns = ProjectionMask::columns(builder.parquet_schema(), KEY);
    let wanted = ArrowPredicateFn::new(key_columns, move |rows| matches(&rows, &keys));
    let rows = builder.with_row_filter(RowFilter::new(vec![Box::new(wanted)])).build()?;
    let rows: Vec<RecordBatch> = rows.try_collect().await?;
    let rows = rows.iter().filter(|rows| rows.num_rows() > 0);
    rows.map(|rows| layout::conform(&with_date(rows, file.date)?, columns)).collect()
}

/// All rows of a file, in these columns.
pub async fn read(
    store: &Arc<dyn ObjectStore>,
    file: &DataFile,
    columns: &SchemaRef,
) -> Result<impl Stream<Item = Result<RecordBatch, Error>> + use<>, Error> {
    let (rows, columns, date) = (open(store, file).await?.build()?, columns.clone(), file.date);
    Ok(rows.map(move |rows| layout::conform(&with_date(&rows?, date)?, &columns)))
}

async fn open(
    store: &Arc<dyn ObjectStore>,
    file: &DataFile,
) -> Result<ParquetRecordBatchStreamBuilder<Reader>, Error> {
    let path = Path::parse(&file.path).map_err(|error| Error::Internal(error.to_string()))?;
    let reader = Reader { store: store.clone(), path, size: file.size };
    Ok(ParquetRecordBatchStreamBuilder::new(reader).await?.with_batch_size(PAGE_ROWS))
}

impl Table {
    /// The rows of one date that have one of these keys. A date without files costs no I/O.
    pub async fn find(
        &self,
        snapshot: &Snapshot,
        columns: &SchemaRef,
        date: i32,
        keys: Vec<Key>,
    ) -> Result<Vec<RecordBatch>, Error> {
        let keys = Arc::new(keys.into_iter().collect::<HashSet<_>>());
        let files = snapshot.files().iter().filter(|file| file.date == date);
        find(&self.store().root(), files, columns, &keys).await
    }
}

fn may_hold(file: &DataFile, keys: &HashSet<Key>) -> bool {
    let within = |range: &Option<(String, String)>, value: &str| {
        range.as_ref().is_none_or(|(low, high)| low.as_str() <= value && value <= high.as_str())
    };
    keys.iter().any(|key| {
        within(&file.tenants, &key.tenant)
            && within(&file.devices, &key.device)
            && file.times_us.is_none_or(|(low, high)| low <= key.time_us && key.time_us <= high)
    })
}

fn matches(rows: &RecordBatch, keys: &HashSet<Key>) -> Result<BooleanArray, ArrowError> {
    let found = Keys::of(rows)?;
    // Times are the sharpest: most rows are passed over without making a key of their texts.
    let wanted: HashSet<i64> = keys.iter().map(|key| key.time_us).collect();
    let matching = (0..rows.num_rows()).map(|row| {
        let (tenant, device, time_us) = found.row(row);
        let key = || Key { tenant: tenant.to_owned(), device: device.to_owned(), time_us };
        Some(wanted.contains(&time_us) && keys.contains(&key()))
    });
    Ok(matching.collect())
}

/// The key columns of some rows.
struct Keys {
    tenants: StringViewArray,
    devices: StringViewArray,
    times: TimestampMicrosecondArray,
}

impl Keys {
    fn of(rows: &RecordBatch) -> Result<Keys, ArrowError> {
        let column = |name: &str| {
            let missing = || ArrowError::SchemaError(format!("a file of ours has no column `{name}`"));
            rows.column_by_name(name).ok_or_else(missing)
        };
        // Another engine's compaction may have written texts in their older type.
        let text = |name: &str| {
            Ok::<_, ArrowError>(cast(column(name)?, &DataType::Utf8View)?.as_string_view().clone())
        };
        Ok(Keys {
            tenants: text("tenant")?,
            devices: text("device")?,
            times: column("time")?.as_primitive::<TimestampMicrosecondType>().clone(),
        })
    }

    fn row(&self, row: usize) -> (&str, &str, i64) {
        (self.tenants.value(row), self.devices.value(row), self.times.value(row))
    }
}

/// The partition's date as a column: files of a partition do not hold it.
fn with_date(rows: &RecordBatch, date: i32) -> Result<RecordBatch, Error> {
    let dates: ArrayRef = Arc::new(Date32Array::from(vec![date; rows.num_rows()]));
    let fields = rows.schema().fields().iter().cloned().collect::<Vec<_>>();
    let field = Arc::new(arrow::datatypes::Field::new(PARTITION, dates.data_type().clone(), false));
    let schema = arrow::datatypes::Schema::new([fields, vec![field]].concat());
    let columns = rows.columns().iter().cloned().chain([dates]).collect();
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}

/// A file of the store, as Parquet reads it: in ranges.
struct Reader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            let bytes = self.store.get_ranges(&self.path, &[range]).await?.pop();
            bytes.ok_or_else(|| ParquetError::General("a range without bytes".into()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { Ok(self.store.get_ranges(&self.path, &ranges).await?) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let size = self.size;
        async move { Ok(Arc::new(ParquetMetaDataReader::new().load_and_finish(self, size).await?)) }.boxed()
    }
}
