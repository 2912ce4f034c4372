//! The newest row of each device, of rows in memory and in files: what comes later is folded into what is known.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray, TimestampMicrosecondArray, UInt32Array},
    compute::{interleave_record_batch, take_record_batch},
    datatypes::{DataType, SchemaRef, TimestampMicrosecondType},
};
use futures::TryStreamExt;
use object_store::ObjectStore;

use crate::{Error, find, snapshot::DataFile};

/// Rows that are gathered before they are folded in: with all their columns some 100 MB.
const GATHERED_ROWS_MAX: usize = 500_000;

/// The newest row of each device, of rows that have one for each and are sorted by tenant and device, and of
/// others in any order.
///
/// # Errors
/// [`Error::Arrow`] where rows are not in the same columns.
pub fn newest(sorted: &RecordBatch, others: &[RecordBatch]) -> Result<RecordBatch, Error> {
    let devices = others.iter().map(Devices::of).collect::<Result<Vec<_>, _>>()?;
    let mut found: HashMap<Device<'_>, Place> = HashMap::new();
    for (batch, devices) in devices.iter().enumerate() {
        for row in (0..devices.len()).filter(|row| devices.may_be_newest(*row)) {
            // Batch 0 is the sorted one.
            let place = Place { time_us: devices.time_us(row), batch: batch + 1, row };
            let known = found.entry(devices.device(row)).or_insert(place);
            if known.time_us < place.time_us {
                *known = place;
            }
        }
    }
    if found.is_empty() {
        return Ok(sorted.clone());
    }
    let mut found: Vec<(Device<'_>, Place)> = found.into_iter().collect();
    found.sort_unstable_by_key(|(device, _)| *device);
    let order = merged(&Devices::of(sorted)?, found);
    let batches: Vec<&RecordBatch> = [sorted].into_iter().chain(others).collect();
    compacted(&interleave_record_batch(&batches, &order)?)
}

/// The newest row of each device, of rows as [`newest`] has them, and of files of a store.
///
/// # Errors
/// As [`find::read`].
pub async fn folded<'a>(
    store: &Arc<dyn ObjectStore>,
    rows: RecordBatch,
    files: impl IntoIterator<Item = &'a DataFile>,
    columns: &SchemaRef,
) -> Result<RecordBatch, Error> {
    let (mut rows, mut gathered, mut count) = (rows, Vec::new(), 0);
    for file in files {
        let mut batches = std::pin::pin!(find::read(store, file, columns).await?);
        while let Some(batch) = batches.try_next().await? {
            let batch = last_of_each(&batch)?;
            count += batch.num_rows();
            gathered.push(batch);
            if count >= GATHERED_ROWS_MAX {
                rows = newest(&rows, &std::mem::take(&mut gathered))?;
                count = 0;
            }
        }
    }
    newest(&rows, &gathered)
}

/// Tenant and device.
type Device<'a> = (&'a str, &'a str);

/// Where a reading stands.
#[derive(Clone, Copy)]
struct Place {
    time_us: i64,
    batch: usize,
    row: usize,
}

/// Batch and row of each row of the result.
fn merged(sorted: &Devices, found: Vec<(Device<'_>, Place)>) -> Vec<(usize, usize)> {
    let mut order = Vec::with_capacity(sorted.len() + found.len());
    let mut found = found.into_iter().peekable();
    for row in 0..sorted.len() {
        let device = sorted.device(row);
        while let Some((_, new)) = found.next_if(|(new, _)| *new < device) {
            order.push((new.batch, new.row));
        }
        match found.next_if(|(new, _)| *new == device) {
            Some((_, new)) if new.time_us > sorted.time_us(row) => order.push((new.batch, new.row)),
            _ => order.push((0, row)),
        }
    }
    order.extend(found.map(|(_, new)| (new.batch, new.row)));
    order
}

/// The same rows without the texts of those that were left out.
fn compacted(rows: &RecordBatch) -> Result<RecordBatch, Error> {
    let columns = rows.columns().iter().map(|column| match column.as_string_view_opt() {
        Some(texts) => Arc::new(texts.gc()) as ArrayRef,
        None => column.clone(),
    });
    Ok(RecordBatch::try_new(rows.schema(), columns.collect())?)
}

/// Whose readings some rows are, and when they were true.
pub(super) struct Devices {
    pub tenants: StringViewArray,
    devices: StringViewArray,
    times: TimestampMicrosecondArray,
}

impl Devices {
    pub fn of(rows: &RecordBatch) -> Result<Devices, Error> {
        let missing = || Error::Internal("the newest of rows that are no readings".into());
        let text = |name: &str| {
            let column = rows.column_by_name(name).filter(|column| *column.data_type() == DataType::Utf8View);
            column.map(|column| column.as_string_view().clone()).ok_or_else(missing)
        };
        let time = rows
            .column_by_name("time")
            .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let times = time.ok_or_else(missing)?.clone();
        Ok(Devices { tenants: text("tenant")?, devices: text("device")?, times })
    }

    pub fn len(&self) -> usize {
        self.times.len()
    }

    pub fn device(&self, row: usize) -> Device<'_> {
        (self.tenants.value(row), self.devices.value(row))
    }

    pub fn time_us(&self, row: usize) -> i64 {
        self.times.value(row)
    }

    /// Whether the next row is none of the same device that is as new: rows of a device mostly stand together,
    /// the newest last, and are passed over without a look at any map.
    fn may_be_newest(&self, row: usize) -> bool {
        let next = row + 1;
        next == self.len() || self.device(row) != self.device(next) || self.time_us(row) > self.time_us(next)
    }
}

/// The rows that may be the newest of their device: of rows sorted by device and time, the last of each.
fn last_of_each(rows: &RecordBatch) -> Result<RecordBatch, Error> {
    let devices = Devices::of(rows)?;
    let last = (0..devices.len()).filter(|row| devices.may_be_newest(*row)).map(|row| row as u32);
    compacted(&take_record_batch(rows, &UInt32Array::from_iter_values(last))?)
}
