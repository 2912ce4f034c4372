use std::sync::Arc;

use arrow::array::{Array, AsArray, Date32Array, Int64Array, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Date32Type, Field, Int64Type, Schema, TimeUnit};
use futures::stream;
use proptest::prelude::*;

use super::*;

/// Tenant, date, device, time.
type Key = (Option<String>, i32, String, i64);

fn columns() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("tenant", DataType::Utf8View, true),
        Field::new("device", DataType::Utf8View, false),
        Field::new("time", time, false),
        Field::new("number", DataType::Int64, false),
        Field::new("date", DataType::Date32, false),
    ]))
}

fn batch(rows: &[(Key, i64)]) -> RecordBatch {
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|((.., time_us), _)| *time_us));
    RecordBatch::try_new(
        columns(),
        vec![
            Arc::new(StringViewArray::from_iter(rows.iter().map(|((tenant, ..), _)| tenant.as_deref()))),
            Arc::new(StringViewArray::from_iter_values(rows.iter().map(|((_, _, device, _), _)| device))),
            Arc::new(times.with_timezone("UTC")),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, number)| *number))),
            Arc::new(Date32Array::from_iter_values(rows.iter().map(|((_, date, ..), _)| *date))),
        ],
    )
    .unwrap()
}

/// A sorted run in batches of these lengths, over and over.
fn run(mut rows: Vec<(Key, i64)>, lengths: &[usize]) -> Run {
    rows.sort();
    let (mut batches, mut at) = (Vec::new(), 0);
    for length in lengths.iter().cycle() {
        if at == rows.len() {
            break;
        }
        let end = rows.len().min(at + length);
        batches.push(Ok(batch(&rows[at..end])));
        at = end;
    }
    stream::iter(batches).boxed()
}

fn rows_of(batch: &RecordBatch) -> Vec<(Key, i64)> {
    let (tenants, devices) = (batch.column(0).as_string_view(), batch.column(1).as_string_view());
    let times = batch.column(2).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    let numbers = batch.column(3).as_primitive::<Int64Type>();
    let dates = batch.column(4).as_primitive::<Date32Type>();
    let row = |row: usize| {
        let tenant = tenants.is_valid(row).then(|| tenants.value(row).to_owned());
        ((tenant, dates.value(row), devices.value(row).to_owned(), times.value(row)), numbers.value(row))
    };
    (0..batch.num_rows()).map(row).collect()
}

async fn merged(runs: Vec<Run>) -> Vec<(Key, i64)> {
    let mut merge = Merge::of(&columns(), runs).await.unwrap();
    let mut rows = Vec::new();
    while let Some(batch) = merge.next().await.unwrap() {
        rows.extend(rows_of(&batch));
    }
    rows
}

fn keys() -> impl Strategy<Value = Key> {
    (prop::option::of("[a-c]{0,2}"), "[a-d]{1,2}", 0..50_i64)
        .prop_map(|(tenant, device, time)| (tenant, (time / 20) as i32, device, time))
}

proptest! {
    #[test]
    fn merged_runs_hold_the_same_rows_in_order(
        runs in prop::collection::vec(prop::collection::vec(keys(), 0..200), 0..6),
        lengths in prop::collection::vec(0..40_usize, 1..5).prop_map(|lengths| [lengths, vec![7]].concat()),
    ) {
        let mut number = 0;
        let numbered: Vec<Vec<(Key, i64)>> = runs.into_iter().map(|keys| keys.into_iter().map(|key| {
            number += 1;
            (key, number)
        }).collect()).collect();
        let mut wanted: Vec<(Key, i64)> = numbered.iter().flatten().cloned().collect();
        let runs = numbered.into_iter().map(|rows| run(rows, &lengths)).collect();
        let mut found = futures::executor::block_on(merged(runs));
        prop_assert!(found.is_sorted_by_key(|(key, _)| key.clone()));
        // Rows of one key may stand in any order.
        found.sort();
        wanted.sort();
        prop_assert_eq!(found, wanted);
    }
}

#[test]
fn many_rows_come_page_by_page() {
    let key = |n: i64| ((Some("t".to_owned()), (n / 20_000) as i32, "d".to_owned(), n), n);
    let runs = (0..3).map(|run_number| {
        let rows = (0..20_000).map(|n| key(n * 3 + run_number)).collect();
        run(rows, &[1_000])
    });
    let found = futures::executor::block_on(merged(runs.collect()));
    assert!(found.iter().map(|(_, number)| *number).eq(0..60_000));
}
