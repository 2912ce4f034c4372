use arrow::{
    array::{Float64Array, Int64Array, StringViewArray},
    datatypes::{DataType, Field, Schema},
};
use proptest::prelude::*;

use super::*;
use crate::runs::tests;

/// A row: device, zone and value; its time is its number.
type Row = (Option<u8>, bool, Option<i16>);

fn batch(rows: &[Row], first: usize) -> RecordBatch {
    let fields = [
        ("device", DataType::Utf8View),
        ("zone", DataType::Utf8View),
        ("time", DataType::Int64),
        ("value", DataType::Float64),
    ];
    let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
    let devices: StringViewArray =
        rows.iter().map(|row| row.0.map(|device| format!("a-device-with-a-long-name-{device}"))).collect();
    let zones: StringViewArray = rows.iter().map(|row| Some(if row.1 { "east" } else { "west" })).collect();
    let times = Int64Array::from_iter_values((first..first + rows.len()).map(|time| time as i64));
    let values: Float64Array = rows.iter().map(|row| row.2.map(f64::from)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(devices), Arc::new(zones), Arc::new(times), Arc::new(values)];
    RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns).unwrap()
}

async fn answer(parts: &[Vec<RecordBatch>], sql: &str, by_runs: bool) -> (Vec<RecordBatch>, String) {
    let rule = by_runs.then_some(LAG);
    tests::answer(parts, sql, rule).await
}

const BY_RUNS: [&str; 5] = [
    "SELECT time, lag(value) OVER (PARTITION BY device ORDER BY time) AS before FROM readings ORDER BY time",
    "SELECT time, lag(value, 1) OVER (PARTITION BY device, zone ORDER BY time DESC) AS after FROM readings ORDER BY time",
    "SELECT time, lag(value) OVER (ORDER BY time) AS before FROM readings ORDER BY time",
    "SELECT time, lag(value) OVER w AS before, lag(device) OVER w AS other FROM readings \
     WINDOW w AS (PARTITION BY zone ORDER BY time) ORDER BY time",
    "SELECT time, lag(value * 2) OVER (PARTITION BY device || zone ORDER BY time) AS before FROM readings ORDER BY time",
];

#[tokio::test]
async fn what_looks_elsewhere_than_one_row_back_is_left_to_the_engine() {
    let rows: Vec<Row> = (0..100).map(|value| (Some(value as u8 % 3), true, Some(value))).collect();
    let windows = [
        "lag(value, 2) OVER (PARTITION BY device ORDER BY time)",
        "lag(value, 0) OVER (PARTITION BY device ORDER BY time)",
        "lag(value, -1) OVER (PARTITION BY device ORDER BY time)",
        "lag(value, 1, 7.5) OVER (PARTITION BY device ORDER BY time)",
        "lag(value) IGNORE NULLS OVER (PARTITION BY device ORDER BY time)",
        "lead(value) OVER (PARTITION BY device ORDER BY time)",
        "sum(value) OVER (PARTITION BY device ORDER BY time)",
    ];
    for window in windows {
        let sql = format!("SELECT time, {window} FROM readings");
        let (_, plan) = answer(&[vec![batch(&rows, 0)]], &sql, true).await;
        assert!(!plan.contains("RunLag"), "{window}: {plan}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn answers_are_those_of_the_engine(
        parts in prop::collection::vec(
            prop::collection::vec(
                prop::collection::vec(
                    (prop::option::weighted(0.9, 0..3_u8), any::<bool>(), prop::option::weighted(0.9, any::<i16>())),
                    0..40,
                ),
                1..4,
            ),
            2,
        )
    ) {
        let mut rows = 0;
        let mut numbered = |batch_rows: &Vec<Row>| {
            rows += batch_rows.len();
            batch(batch_rows, rows - batch_rows.len())
        };
        let parts: Vec<Vec<RecordBatch>> =
            parts.iter().map(|batches| batches.iter().map(&mut numbered).collect()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for sql in BY_RUNS {
            let (ours, plan) = runtime.block_on(answer(&parts, sql, true));
            prop_assert!(plan.contains("RunLag"), "{plan}");
            let (engines, _) = runtime.block_on(answer(&parts, sql, false));
            let one = |batches: &[RecordBatch]| match batches.first() {
                Some(first) => arrow::compute::concat_batches(&first.schema(), batches).map(Some),
                None => Ok(None),
            };
            prop_assert_eq!(one(&ours).unwrap(), one(&engines).unwrap(), "{}", sql);
        }
    }
}
