//! Rows looked up by their keys: one scan of the key columns where they can be, the rest only for what is found.

use std::{collections::HashSet, ops::Range, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch, StringViewArray, TimestampMicrosecondArray},
    compute::cast,
    datatypes::{DataType, SchemaRef, TimestampMicrosecondType},
    error::ArrowError,
};
use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future::BoxFuture, stream};
use object_store::{ObjectStore, path::Path};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{ArrowPredicateFn, ArrowReaderOptions, RowFilter},
        async_reader::AsyncFileReader,
    },
    errors::{ParquetError, Result as ParquetResult},
    file::{
        metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData},
        statistics::Statistics,
    },
};

use crate::{
    Error, Snapshot, Table,
    layout::{self, PAGE_ROWS},
    snapshot::DataFile,
};

/// The columns that identify a row.
const KEY: [&str; 3] = ["tenant", "device", "time"];

/// Files that are looked through at once: with a store whose answers take 50 ms, thirty need four rounds rather
/// than thirty. Each holds the key columns of one row group, 262,144 rows or about 10 MB.
const FILES_AT_ONCE: usize = 8;

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

/// Keys that rows are sought by.
#[derive(Debug, Default)]
pub struct Sought {
    keys: HashSet<Key>,
    times_us: HashSet<i64>,
}

impl FromIterator<Key> for Sought {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Sought {
        let keys: HashSet<Key> = keys.into_iter().collect();
        let times_us = keys.iter().map(|key| key.time_us).collect();
        Sought { keys, times_us }
    }
}

impl Sought {
    /// Which of some rows have one of the keys.
    ///
    /// # Errors
    /// Where they lack a column of the key.
    pub fn matching(&self, rows: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let found = KeyColumns::of(rows)?;
        // Times are the sharpest: most rows are passed over without making a key of their texts.
        let is_sought = |row: usize| {
            self.times_us.contains(&found.times.value(row)) && self.keys.contains(&found.key(row))
        };
        Ok((0..rows.num_rows()).map(is_sought).map(Some).collect())
    }
}

/// The key of each row.
///
/// # Errors
/// Where they lack a column of it.
pub fn keys(rows: &RecordBatch) -> Result<Vec<Key>, ArrowError> {
    let found = KeyColumns::of(rows)?;
    Ok((0..rows.num_rows()).map(|row| found.key(row)).collect())
}

/// The rows that have one of these keys, from files of a store. A file that cannot hold any costs no I/O.
pub async fn find<'a>(
    store: &Arc<dyn ObjectStore>,
    files: impl Iterator<Item = &'a DataFile>,
    columns: &SchemaRef,
    sought: &Arc<Sought>,
) -> Result<Vec<RecordBatch>, Error> {
    let may_hold = |file: &&DataFile| Ranges::of_file(file).may_hold(sought);
    // Boxed, as the compiler cannot see through the lifetimes of a closure's futures.
    let finds: Vec<BoxFuture<'_, _>> =
        files.filter(may_hold).map(|file| find_in(store, file, columns, sought.clone()).boxed()).collect();
    let found: Vec<Vec<RecordBatch>> = stream::iter(finds).buffered(FILES_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn find_in(
    store: &Arc<dyn ObjectStore>,
    file: &DataFile,
    columns: &SchemaRef,
    sought: Arc<Sought>,
) -> Result<Vec<RecordBatch>, Error> {
    let builder = open(store, file).await?;
    let groups = builder.metadata().row_groups().iter().enumerate();
    let groups = groups.filter(|(_, group)| Ranges::of_group(group).may_hold(&sought)).map(|(at, _)| at);
    let groups = groups.collect();
    let builder = builder.with_row_groups(groups);
    let key_columns = ProjectionMask::columns(builder.parquet_schema(), KEY);
    let wanted = ArrowPredicateFn::new(key_columns, move |rows| sought.matching(&rows));
    let rows = builder.with_row_filter(RowFilter::new(vec![Box::new(wanted)])).build()?;
    let rows: Vec<RecordBatch> = rows.try_collect().await?;
    let rows = rows.iter().filter(|rows| rows.num_rows() > 0);
    rows.map(|rows| layout::conform(rows, columns)).collect()
}

/// All rows of a file, in these columns; others are not even fetched.
pub async fn read(
    store: &Arc<dyn ObjectStore>,
    file: &DataFile,
    columns: &SchemaRef,
) -> Result<impl Stream<Item = Result<RecordBatch, Error>> + use<>, Error> {
    let (builder, columns) = (open(store, file).await?, columns.clone());
    let names = columns.fields().iter().map(|field| field.name().as_str());
    let wanted = ProjectionMask::columns(builder.parquet_schema(), names);
    let rows = builder.with_projection(wanted).build()?;
    Ok(rows.map(move |rows| layout::conform(&rows?, &columns)))
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
    /// The rows that have one of these keys. A file that cannot hold any costs no I/O.
    pub async fn find(
        &self,
        snapshot: &Snapshot,
        columns: &SchemaRef,
        sought: &Arc<Sought>,
    ) -> Result<Vec<RecordBatch>, Error> {
        find(&self.store().root(), snapshot.files().iter(), columns, sought).await
    }
}

/// Between what the keys of some rows lie, as far as that is known.
struct Ranges<'a> {
    tenants: Option<(&'a str, &'a str)>,
    devices: Option<(&'a str, &'a str)>,
    times_us: Option<(i64, i64)>,
}

impl Ranges<'_> {
    fn of_file(file: &DataFile) -> Ranges<'_> {
        fn texts(range: &Option<(String, String)>) -> Option<(&str, &str)> {
            range.as_ref().map(|(low, high)| (low.as_str(), high.as_str()))
        }
        Ranges { tenants: texts(&file.tenants), devices: texts(&file.devices), times_us: file.times_us }
    }

    fn of_group(group: &RowGroupMetaData) -> Ranges<'_> {
        let column = |name: &str| {
            let found = group.columns().iter().find(|column| column.column_path().string() == name);
            found.and_then(|column| column.statistics())
        };
        let texts = |name: &str| match column(name)? {
            Statistics::ByteArray(range) => {
                let (low, high) = (range.min_opt()?.as_utf8().ok()?, range.max_opt()?.as_utf8().ok()?);
                Some((low, high))
            }
            _ => None,
        };
        let times_us = match column("time") {
            Some(Statistics::Int64(range)) => range.min_opt().copied().zip(range.max_opt().copied()),
            _ => None,
        };
        Ranges { tenants: texts("tenant"), devices: texts("device"), times_us }
    }

    fn may_hold(&self, sought: &Sought) -> bool {
        let within = |range: Option<(&str, &str)>, value: &str| {
            range.is_none_or(|(low, high)| low <= value && value <= high)
        };
        sought.keys.iter().any(|key| {
            within(self.tenants, &key.tenant)
                && within(self.devices, &key.device)
                && self.times_us.is_none_or(|(low, high)| low <= key.time_us && key.time_us <= high)
        })
    }
}

/// The key columns of some rows.
struct KeyColumns {
    tenants: StringViewArray,
    devices: StringViewArray,
    times: TimestampMicrosecondArray,
}

impl KeyColumns {
    fn of(rows: &RecordBatch) -> Result<KeyColumns, ArrowError> {
        let column = |name: &str| {
            let missing = || ArrowError::SchemaError(format!("a file of ours has no column `{name}`"));
            rows.column_by_name(name).ok_or_else(missing)
        };
        // Another engine's compaction may have written texts in their older type.
        let text = |name: &str| {
            Ok::<_, ArrowError>(cast(column(name)?, &DataType::Utf8View)?.as_string_view().clone())
        };
        Ok(KeyColumns {
            tenants: text("tenant")?,
            devices: text("device")?,
            times: column("time")?.as_primitive::<TimestampMicrosecondType>().clone(),
        })
    }

    fn key(&self, row: usize) -> Key {
        Key {
            tenant: self.tenants.value(row).to_owned(),
            device: self.devices.value(row).to_owned(),
            time_us: self.times.value(row),
        }
    }
}

/// A file of a store, as Parquet reads it: in ranges.
#[derive(Debug, Clone)]
pub struct Reader {
    /// Where it lies.
    pub store: Arc<dyn ObjectStore>,
    /// Its path from the root of the store.
    pub path: Path,
    /// Bytes.
    pub size: u64,
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
