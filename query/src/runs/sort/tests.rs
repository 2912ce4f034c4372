use arrow::{
    array::{AsArray, Int64Array, StringViewArray},
    compute::SortOptions,
    datatypes::{DataType, Field, Int64Type, Schema},
};
use datafusion::physical_expr::{PhysicalSortExpr, expressions::col};
use proptest::prelude::*;

use super::*;
use crate::runs::tests;

/// A row: device and time.
type Row = (Option<u8>, Option<i64>);

fn batch(rows: &[Row]) -> RecordBatch {
    let fields = [("device", DataType::Utf8View), ("time", DataType::Int64), ("row", DataType::Int64)];
    let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
    let devices: StringViewArray =
        rows.iter().map(|row| row.0.map(|device| format!("device-{device}"))).collect();
    let times: Int64Array = rows.iter().map(|row| row.1).collect();
    let numbers = Int64Array::from_iter_values(0..rows.len() as i64);
    let columns: Vec<ArrayRef> = vec![Arc::new(devices), Arc::new(times), Arc::new(numbers)];
    RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns).unwrap()
}

/// Some days of some devices, as a scan gives them: date by date.
fn days(days: i64, devices: u8) -> Vec<Row> {
    let day = |day: i64| {
        (0..devices).flat_map(move |device| (0..48).map(move |step| (Some(device), Some(day * 100 + step))))
    };
    (0..days).flat_map(day).collect()
}

fn by_device_and_time(batch: &RecordBatch) -> LexOrdering {
    let key = |name: &str| PhysicalSortExpr::new(col(name, &batch.schema()).unwrap(), SortOptions::default());
    LexOrdering::new([key("device"), key("time")]).unwrap()
}

#[test]
fn days_of_devices_are_in_order_when_they_are_laid_out() {
    let all = days(30, 4);
    let batches: Vec<RecordBatch> = all.chunks(1_000).map(batch).collect();
    let order = by_device_and_time(&batches[0]);
    let laid_out = lay_out(batches, &order).unwrap();
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(laid_out.len(), 1);
    let times = laid_out[0].column(1).as_primitive::<Int64Type>().values();
    assert!(times.iter().copied().eq(sorted.iter().map(|row| row.1.unwrap())));
}

#[test]
fn days_that_come_late_are_put_in_between() {
    let all = days(12, 2);
    let (late, others): (Vec<Row>, Vec<Row>) =
        all.iter().partition(|row| (300..500).contains(&row.1.unwrap()));
    let batches = vec![batch(&others), batch(&late)];
    let order = by_device_and_time(&batches[0]);
    let laid_out = lay_out(batches, &order).unwrap();
    let mut sorted = all.clone();
    sorted.sort();
    let times = laid_out[0].column(1).as_primitive::<Int64Type>().values();
    assert!(times.iter().copied().eq(sorted.iter().map(|row| row.1.unwrap())));
}

#[test]
fn rows_that_are_in_order_or_in_none_are_left_as_they_are() {
    let sorted: Vec<Row> = (0..500).map(|time| (Some(1), Some(time))).collect();
    let mixed: Vec<Row> = (0..500).map(|time| (Some(1), Some(time * 37 % 100))).collect();
    for rows in [sorted, mixed] {
        let batch = batch(&rows);
        let order = by_device_and_time(&batch);
        assert_eq!(lay_out(vec![batch.clone()], &order).unwrap(), [batch]);
    }
}

async fn answer(parts: &[Vec<RecordBatch>], sql: &str, by_runs: bool) -> (Vec<RecordBatch>, String) {
    let rule = by_runs.then_some(SORT);
    tests::answer(parts, sql, rule).await
}

const QUESTIONS: [&str; 3] = [
    "SELECT device, time FROM readings ORDER BY device, time",
    "SELECT time, device FROM readings ORDER BY time DESC NULLS LAST, device NULLS FIRST",
    "SELECT device, time, lag(time) OVER (PARTITION BY device ORDER BY time) AS before FROM readings \
     ORDER BY device, time, before",
];

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (prop::option::weighted(0.9, 0..4_u8), prop::option::weighted(0.9, 0..50_i64));
    // Single rows, and days of which one follows the other or overlaps it.
    let day = (0..4_u8, 0..5_i64)
        .prop_map(|(device, day)| (0..40).map(|step| (Some(device), Some(day * 35 + step))).collect());
    let piece = prop_oneof![prop::collection::vec(row, 1..30), day];
    prop::collection::vec(piece, 1..8).prop_map(|pieces: Vec<Vec<Row>>| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn answers_are_those_of_the_engine(parts in prop::collection::vec(prop::collection::vec(rows(), 1..4), 2)) {
        let parts: Vec<Vec<RecordBatch>> =
            parts.iter().map(|batches| batches.iter().map(|rows| batch(rows)).collect()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for sql in QUESTIONS {
            let (ours, plan) = runtime.block_on(answer(&parts, sql, true));
            prop_assert!(plan.contains("RunSort"), "{plan}");
            let (engines, _) = runtime.block_on(answer(&parts, sql, false));
            let one = |batches: &[RecordBatch]| arrow::compute::concat_batches(&batches[0].schema(), batches).unwrap();
            prop_assert_eq!(one(&ours), one(&engines), "{}", sql);
        }
    }
}
