//! What the log says of a file's rows, so that questions can pass it over: Delta protocol, "Per-file Statistics".

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Date32Type, TimestampMicrosecondType},
};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

use super::{SORT, date_text};
use crate::table::DATE;

/// Row count, null counts, and the range of each sort column, of rows that come batch by batch.
#[derive(Debug, Default)]
pub struct Statistics {
    rows: usize,
    nulls: BTreeMap<String, usize>,
    texts: BTreeMap<&'static str, (String, String)>,
    times: BTreeMap<&'static str, (i64, i64)>,
    dates: Option<(i32, i32)>,
}

impl Statistics {
    /// Takes more rows into account.
    pub fn add(&mut self, rows: &RecordBatch) {
        self.rows += rows.num_rows();
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            *self.nulls.entry(field.name().clone()).or_default() += column.null_count();
        }
        for name in SORT {
            if let Some(column) = rows.column_by_name(name) {
                self.widen(name, column.as_ref());
            }
        }
    }

    fn widen(&mut self, name: &'static str, column: &dyn Array) {
        match column.data_type() {
            DataType::Utf8View => {
                let texts = || column.as_string_view().iter().flatten();
                let Some((least, greatest)) = texts().min().zip(texts().max()) else { return };
                let range = self.texts.entry(name).or_insert_with(|| (least.to_owned(), greatest.to_owned()));
                if least < range.0.as_str() {
                    range.0 = least.to_owned();
                }
                if greatest > range.1.as_str() {
                    range.1 = greatest.to_owned();
                }
            }
            DataType::Timestamp(..) => {
                let times = column.as_primitive::<TimestampMicrosecondType>().values();
                let Some((least, greatest)) = times.iter().min().zip(times.iter().max()) else { return };
                let range = self.times.entry(name).or_insert((*least, *greatest));
                *range = (range.0.min(*least), range.1.max(*greatest));
            }
            DataType::Date32 => {
                let dates = column.as_primitive::<Date32Type>().values();
                let Some((least, greatest)) = dates.iter().min().zip(dates.iter().max()) else { return };
                let range = self.dates.get_or_insert((*least, *greatest));
                *range = (range.0.min(*least), range.1.max(*greatest));
            }
            _ => {}
        }
    }

    /// How many rows there were.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// As the Delta log has them.
    pub fn to_json(&self) -> Value {
        let (mut low, mut high) = (Map::new(), Map::new());
        for (name, (least, greatest)) in &self.texts {
            low.insert((*name).to_owned(), least.as_str().into());
            high.insert((*name).to_owned(), greatest.as_str().into());
        }
        for (name, (least, greatest)) in &self.times {
            if let Some((least, greatest)) = text(*least).zip(text(*greatest)) {
                low.insert((*name).to_owned(), least.into());
                high.insert((*name).to_owned(), greatest.into());
            }
        }
        if let Some((least, greatest)) = self.dates {
            low.insert(DATE.to_owned(), date_text(least).into());
            high.insert(DATE.to_owned(), date_text(greatest).into());
        }
        json!({ "numRecords": self.rows, "minValues": low, "maxValues": high, "nullCount": self.nulls })
    }
}

fn text(time_us: i64) -> Option<String> {
    Some(DateTime::from_timestamp_micros(time_us)?.to_rfc3339_opts(SecondsFormat::Micros, true))
}
