//! Rows of a domain, put together column by column.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, Date32Array, Float64Builder, Int64Array, RecordBatch, StringViewBuilder,
        TimestampMicrosecondArray, new_null_array,
    },
    datatypes::SchemaRef,
};
use zeugma_schemas::batch::date_of;

/// Microseconds of a second and of a day.
pub const SECOND_US: i64 = 1_000_000;
pub const DAY_US: i64 = 86_400 * SECOND_US;

/// Whose rows they are and when: the columns that all domains have.
#[derive(Default)]
pub struct Common {
    tenant: StringViewBuilder,
    device: StringViewBuilder,
    time_us: Vec<i64>,
    received_at_us: Vec<i64>,
    seq: Vec<i64>,
}

impl Common {
    /// Builders whose texts are written once, however many rows share them.
    pub fn new() -> Common {
        Common {
            tenant: StringViewBuilder::new().with_deduplicate_strings(),
            device: StringViewBuilder::new().with_deduplicate_strings(),
            ..Common::default()
        }
    }

    /// One row.
    pub fn push(&mut self, tenant: &str, device: &str, time_us: i64, delay_us: i64, seq: i64) {
        self.tenant.append_value(tenant);
        self.device.append_value(device);
        self.time_us.push(time_us);
        self.received_at_us.push(time_us + delay_us);
        self.seq.push(seq);
    }

    /// A batch in these columns; those that nobody gives are null.
    pub fn batch(mut self, columns: &SchemaRef, own: Vec<(&str, ArrayRef)>) -> anyhow::Result<RecordBatch> {
        let rows = self.time_us.len();
        let dates: Date32Array =
            self.time_us.iter().map(|time_us| date_of(*time_us)).collect::<Vec<_>>().into();
        let times = |values: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"));
        let mut given: Vec<(&str, ArrayRef)> = vec![
            ("tenant", Arc::new(self.tenant.finish())),
            ("device", Arc::new(self.device.finish())),
            ("time", times(self.time_us)),
            ("received_at", times(self.received_at_us)),
            ("seq", Arc::new(Int64Array::from(self.seq))),
            ("date", Arc::new(dates)),
        ];
        given.extend(own);
        let values = columns.fields().iter().map(|field| {
            let found = given.iter().find(|(name, _)| name == field.name());
            found.map_or_else(|| new_null_array(field.data_type(), rows), |(_, values)| values.clone())
        });
        Ok(RecordBatch::try_new(columns.clone(), values.collect())?)
    }
}

/// Doubles by name, one value of each a row.
pub struct Doubles<const N: usize> {
    names: [&'static str; N],
    values: [Float64Builder; N],
}

impl<const N: usize> Doubles<N> {
    /// Empty columns.
    pub fn new(names: [&'static str; N]) -> Doubles<N> {
        Doubles { names, values: std::array::from_fn(|_| Float64Builder::new()) }
    }

    /// One row.
    pub fn push(&mut self, row: [Option<f64>; N]) {
        for (column, value) in self.values.iter_mut().zip(row) {
            column.append_option(value);
        }
    }

    /// The columns.
    pub fn finish(mut self) -> Vec<(&'static str, ArrayRef)> {
        let values = self.values.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        self.names.into_iter().zip(values).collect()
    }
}

/// Rounded to so many decimals, as sensors give their values.
pub fn rounded(value: f64, decimals: i32) -> f64 {
    let factor = 10f64.powi(decimals);
    (value * factor).round() / factor
}
