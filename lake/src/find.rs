//! Rows looked up by their keys: one scan of the key columns for each date, the rest only for what is found.

use std::{collections::HashSet, ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Date32Array, RecordBatch},
    datatypes::{SchemaRef, TimestampMicrosecondType},
};
use bytes::Bytes;
use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{ArrowPredicateFn, ArrowReaderOptions, RowFilter},
        async_reader::AsyncFileReader,
    },
    errors::{ParquetError, Result as ParquetResult},
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

use crate::{Error, Snapshot, Table, layout, snapshot::DataFile, table::PARTITION};

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
        let mut found = Vec::new();
        for file in snapshot.files().iter().filter(|file| file.date == date && may_hold(file, &keys)) {
            found.extend(self.find_in(file, columns, keys.clone()).await?);
        }
        Ok(found)
    }

    async fn find_in(
        &self,
        file: &DataFile,
        columns: &SchemaRef,
        keys: Arc<HashSet<Key>>,
    ) -> Result<Vec<RecordBatch>, Error> {
        let path = Path::parse(&file.path).map_err(|error| Error::Internal(error.to_string()))?;
        let reader = Reader { store: self.store().root(), path, size: file.size };
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
        let key_columns = ProjectionMask::columns(builder.parquet_schema(), ["tenant", "device", "time"]);
        let wanted = ArrowPredicateFn::new(key_columns, move |rows| matches(&rows, &keys));
        let rows = builder.with_row_filter(RowFilter::new(vec![Box::new(wanted)])).build()?;
        let rows: Vec<RecordBatch> = rows.try_collect().await?;
        let rows = rows.iter().filter(|rows| rows.num_rows() > 0);
        rows.map(|rows| layout::conform(&with_date(rows, file.date)?, columns)).collect()
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

fn matches(rows: &RecordBatch, keys: &HashSet<Key>) -> Result<BooleanArray, arrow::error::ArrowError> {
    let text = |name: &str| -> Result<ArrayRef, arrow::error::ArrowError> {
        arrow::compute::cast(&column(rows, name)?, &arrow::datatypes::DataType::Utf8View)
    };
    let (tenants, devices) = (text("tenant")?, text("device")?);
    let (tenants, devices) = (tenants.as_string_view(), devices.as_string_view());
    let times = column(rows, "time")?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    // Times are the sharpest: most rows are passed over without making a key of their texts.
    let wanted: HashSet<i64> = keys.iter().map(|key| key.time_us).collect();
    let found = (0..rows.num_rows()).map(|row| {
        wanted.contains(&times.value(row))
            && keys.contains(&Key {
                tenant: tenants.value(row).to_owned(),
                device: devices.value(row).to_owned(),
                time_us: times.value(row),
            })
    });
    Ok(found.map(Some).collect())
}

fn column(rows: &RecordBatch, name: &str) -> Result<ArrayRef, arrow::error::ArrowError> {
    rows.column_by_name(name)
        .cloned()
        .ok_or_else(|| ParquetError::General(format!("a file of ours has no column `{name}`")).into())
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
        async move { Ok(self.store.get_range(&self.path, range).await?) }.boxed()
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
