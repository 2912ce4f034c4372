//! Which files of a snapshot can hold a row that the filters let through, by what the log says of each.

use std::{collections::HashSet, ops::RangeInclusive, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, Date32Array, StringViewArray, TimestampMicrosecondArray, UInt64Array,
    },
    datatypes::SchemaRef,
};
use datafusion::{
    common::{Column, pruning::PruningStatistics},
    physical_expr::PhysicalExpr,
    physical_optimizer::pruning::PruningPredicateBuilder,
    scalar::ScalarValue,
};
use zeugma_lake::snapshot::DataFile;
use zeugma_schemas::batch::DAY_US;

/// The files that may hold rows for which `predicate` is true.
///
/// A predicate that says nothing about files leaves all of them.
pub fn prune<'a>(
    files: Vec<&'a DataFile>,
    columns: &SchemaRef,
    predicate: &Arc<dyn PhysicalExpr>,
) -> Vec<&'a DataFile> {
    let predicate = PruningPredicateBuilder::new().with_file_schema(columns.clone()).build(predicate.clone());
    match predicate.map(|predicate| predicate.prune(&Statistics(&files))) {
        Some(Ok(kept)) => {
            files.into_iter().zip(kept).filter_map(|(file, kept)| kept.then_some(file)).collect()
        }
        _ => files,
    }
}

struct Statistics<'a>(&'a [&'a DataFile]);

impl Statistics<'_> {
    /// One end of each file's range of a column: the lower (`0`) or the upper (`1`).
    fn ends(&self, column: &Column, upper: bool) -> Option<ArrayRef> {
        let texts = |of: &dyn Fn(&DataFile) -> &Option<(String, String)>| -> ArrayRef {
            let ends =
                self.0.iter().map(|file| of(file).as_ref().map(|(low, high)| if upper { high } else { low }));
            Arc::new(StringViewArray::from_iter(ends))
        };
        match column.name() {
            "tenant" => Some(texts(&|file| &file.tenants)),
            "device" => Some(texts(&|file| &file.devices)),
            "time" => Some(times(self.0.iter().map(|file| {
                let (low, high) = times_us(file);
                if upper { high } else { low }
            }))),
            "date" => {
                let ends =
                    self.0.iter().map(|file| if upper { *file.dates.end() } else { *file.dates.start() });
                Some(Arc::new(Date32Array::from_iter_values(ends)))
            }
            _ => None,
        }
    }
}

/// The earliest and the latest time, microseconds since 1970, that a row of a file can have by what the log says.
pub fn times_us(file: &DataFile) -> (i64, i64) {
    file.times_us.unwrap_or_else(|| days(&file.dates))
}

/// First and last microsecond of some dates; dates that nobody knows reach beyond all microseconds.
fn days(dates: &RangeInclusive<i32>) -> (i64, i64) {
    let first = |date: i32| i64::from(date).saturating_mul(DAY_US);
    (first(*dates.start()), first(*dates.end()).saturating_add(DAY_US - 1))
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

impl PruningStatistics for Statistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, false)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, true)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let never_null = matches!(column.name(), "device" | "time" | "date");
        never_null.then(|| Arc::new(UInt64Array::from(vec![0; self.0.len()])) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = UInt64Array::from_iter(self.0.iter().map(|file| file.rows));
        (rows.null_count() == 0).then(|| Arc::new(rows) as ArrayRef)
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use datafusion::{
        common::DFSchema,
        logical_expr::{Expr, col, lit},
        prelude::SessionContext,
    };
    use zeugma_schemas::domain::Domains;

    use super::*;

    #[test]
    fn file_of_which_the_log_says_nothing_is_never_passed_over() {
        let columns = Domains::builtin().get("fleet").unwrap().columns().clone();
        let unknown = DataFile {
            path: "fleet/by-another-engine.parquet".into(),
            size: 1,
            dates: i32::MIN..=i32::MAX,
            rows: None,
            tenants: None,
            devices: None,
            times_us: None,
        };
        let time = |time_us: i64| lit(ScalarValue::TimestampMicrosecond(Some(time_us), Some("UTC".into())));
        let kept = |filter: Expr| {
            let schema = DFSchema::try_from(columns.clone()).unwrap();
            let filter = SessionContext::new().create_physical_expr(filter, &schema).unwrap();
            !prune(vec![&unknown], &columns, &filter).is_empty()
        };
        for time_us in [0, 1_790_000_000_000_000] {
            assert!(kept(col("time").gt_eq(time(time_us))));
            assert!(kept(col("time").lt(time(time_us))));
            assert!(kept(col("time").eq(time(time_us))));
        }
        assert!(kept(col("date").eq(lit(ScalarValue::Date32(Some(20_000))))));
        assert!(kept(col("tenant").eq(lit("lamia"))));
    }
}
