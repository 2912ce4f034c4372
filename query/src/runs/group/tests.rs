use arrow::{
    array::{Float64Array, Int64Array, StringViewArray},
    datatypes::{DataType, Field, Schema},
    util::pretty::pretty_format_batches,
};
use proptest::prelude::*;

use super::*;
use crate::runs::tests;

/// A row: tenant, bucket and value.
type Row = (Option<u8>, Option<i64>, Option<i64>);

fn batch(rows: &[Row]) -> RecordBatch {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let fields = [
        field("tenant", DataType::Utf8View),
        field("bucket", DataType::Int64),
        field("w", DataType::Float64),
    ];
    let tenants: StringViewArray =
        rows.iter().map(|row| row.0.map(|tenant| format!("a tenant with a long name, {tenant}"))).collect();
    let buckets: Int64Array = rows.iter().map(|row| row.1).collect();
    let values: Float64Array = rows.iter().map(|row| row.2.map(|value| value as f64)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(tenants), Arc::new(buckets), Arc::new(values)];
    RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns).unwrap()
}

/// What an engine answers, as text, and its plan.
async fn answer(parts: &[Vec<RecordBatch>], sql: &str, by_runs: bool) -> (String, String) {
    let rule = by_runs.then_some(GROUP);
    let (batches, plan) = tests::answer(parts, sql, rule).await;
    (pretty_format_batches(&batches).unwrap().to_string(), plan)
}

const QUESTIONS: [&str; 6] = [
    "SELECT tenant, bucket, count(*), count(w), sum(w), avg(w), min(w), max(w) FROM readings GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT tenant, sum(w) FILTER (WHERE w > 3), count(*) FILTER (WHERE bucket IS NULL) FROM readings GROUP BY 1 ORDER BY 1",
    "SELECT bucket, first_value(w ORDER BY w), median(w), round(stddev(w), 6) FROM readings GROUP BY 1 ORDER BY 1",
    "SELECT DISTINCT tenant, bucket FROM readings ORDER BY 1, 2",
    "SELECT tenant, max(tenant), bool_or(w > 2), last_value(bucket ORDER BY bucket) FROM readings GROUP BY 1 ORDER BY 1",
    "SELECT tenant, bucket, sum(w) FROM (SELECT * FROM readings ORDER BY 1, 2 LIMIT 1000) GROUP BY 1, 2 ORDER BY 1, 2",
];

/// The same with filters, of which some let most rows through and some few, and all are part of the grouping.
const FILTERED: [&str; 6] = [
    "SELECT tenant, count(*), count(w), sum(w), avg(w), min(w), max(w) FROM readings WHERE w > 1 GROUP BY 1 ORDER BY 1",
    "SELECT tenant, bucket, avg(w), count(*) FROM readings WHERE w <> 4 OR bucket IS NULL GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT bucket, median(w), round(stddev(w), 6), max(tenant) FROM readings WHERE w < 7 GROUP BY 1 ORDER BY 1",
    "SELECT bucket, first_value(w ORDER BY w), last_value(bucket ORDER BY bucket) FROM readings WHERE w IS NOT NULL GROUP BY 1 ORDER BY 1",
    "SELECT DISTINCT tenant, bucket FROM readings WHERE w > 2 ORDER BY 1, 2",
    "SELECT tenant, sum(w), count(*) FROM readings WHERE bucket = 1 AND w = 5 GROUP BY 1 ORDER BY 1",
];

fn row() -> impl Strategy<Value = Row> {
    (prop::option::of(0..3_u8), prop::option::of(0..3_i64), prop::option::of(0..9_i64))
}

/// Rows one after the other, many of them the same as the one before.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let length = prop_oneof![20 => 1..20_usize, 1 => LONG_RUN_ROWS_MIN..2 * LONG_RUN_ROWS_MIN];
    prop::collection::vec((row(), length), 1..8).prop_map(|runs| {
        let run = |(row, length): (Row, usize)| {
            (0..length as i64).map(move |at| (row.0, row.1, row.2.map(|w| w + at % 2)))
        };
        runs.into_iter().flat_map(run).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn answers_are_those_of_the_engine(parts in prop::collection::vec(prop::collection::vec(rows(), 1..4), 2)) {
        let parts: Vec<Vec<RecordBatch>> =
            parts.iter().map(|batches| batches.iter().map(|rows| batch(rows)).collect()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for sql in QUESTIONS.iter().chain(&FILTERED) {
            let (ours, plan) = runtime.block_on(answer(&parts, sql, true));
            prop_assert!(plan.contains("RunAggregate"), "{plan}");
            prop_assert!(!plan.contains("FilterExec"), "{plan}");
            prop_assert_eq!(ours, runtime.block_on(answer(&parts, sql, false)).0, "{}", sql);
        }
    }
}

#[tokio::test]
async fn states_have_a_row_for_each_run_of_a_batch() {
    let rows: Vec<Row> =
        (0..1_000).map(|row| (Some((row / 100 % 2) as u8), Some(row / 50), Some(row))).collect();
    let parts = vec![vec![batch(&rows[..600]), batch(&[]), batch(&rows[600..])], vec![batch(&[])]];
    let (by_tenant, _) =
        answer(&parts, "SELECT tenant, sum(w) FROM readings GROUP BY 1 ORDER BY 1", true).await;
    assert!(by_tenant.contains("224750.0") && by_tenant.contains("274750.0"), "{by_tenant}");
    let analyzed = "EXPLAIN ANALYZE SELECT tenant, bucket, count(*) FROM readings GROUP BY 1, 2";
    let (analyzed, _) = answer(&parts, analyzed, true).await;
    let line = analyzed.lines().find(|line| line.contains("RunAggregate")).unwrap();
    assert!(line.contains("output_rows=20,"), "{line}");
}

#[tokio::test]
async fn long_runs_have_the_states_that_their_rows_would_have_one_by_one() {
    let run =
        |tenant: u8| (0..3_000).map(move |row| (Some(tenant), Some(row % 2), (row % 5 > 0).then_some(row)));
    let rows: Vec<Row> = run(0).chain(run(1)).chain((0..3_000).map(|_| (Some(2), None, None))).collect();
    let parts = vec![vec![batch(&rows), batch(&rows[2_000..8_000])], vec![batch(&rows[..4_000])]];
    for aggregates in [
        "count(*), count(w), sum(w), avg(w), min(w), max(w), median(w), round(stddev(w), 6)",
        "first_value(w ORDER BY bucket, w), max(tenant), bool_or(w > 2), count(DISTINCT bucket)",
        "sum(w) FILTER (WHERE w > 3), count(w)",
    ] {
        let sql = format!("SELECT tenant, {aggregates} FROM readings GROUP BY 1 ORDER BY 1");
        let (ours, plan) = answer(&parts, &sql, true).await;
        assert!(plan.contains("RunAggregate"), "{plan}");
        assert_eq!(ours, answer(&parts, &sql, false).await.0, "{sql}");
    }
}

#[tokio::test]
async fn what_may_fail_is_computed_of_wanted_rows_alone() {
    let rows: Vec<Row> = (0..3_000).map(|row| (Some(0), Some(row % 100), Some(row))).collect();
    let parts = vec![vec![batch(&rows)], vec![batch(&rows)]];
    for sql in [
        "SELECT tenant, sum(100 / bucket) FROM readings WHERE bucket <> 0 GROUP BY 1",
        "SELECT tenant, sum(w) FILTER (WHERE 100 / bucket > 1) FROM readings WHERE bucket <> 0 GROUP BY 1",
        "SELECT 100 / bucket / 1000, sum(w) FROM readings WHERE bucket <> 0 GROUP BY 1",
    ] {
        let (ours, plan) = answer(&parts, sql, true).await;
        assert!(plan.contains("RunAggregate"), "{plan}");
        assert_eq!(ours, answer(&parts, sql, false).await.0, "{sql}");
    }
}

#[tokio::test]
async fn plan_says_which_rows_are_wanted_and_reads_their_columns_alone() {
    let rows: Vec<Row> = (0..3_000).map(|row| (Some(0), Some(row), Some(row % 10))).collect();
    let parts = vec![vec![batch(&rows)], vec![batch(&rows)]];
    let sql = "SELECT tenant, count(*), sum(bucket) FROM readings WHERE w > 2 GROUP BY 1";
    let (ours, plan) = answer(&parts, sql, true).await;
    assert!(plan.contains("RunAggregate: gby=[tenant], filter=[w@2 > 2]"), "{plan}");
    assert_eq!(ours, answer(&parts, sql, false).await.0);
}

#[tokio::test]
async fn engine_groups_by_itself_where_rows_have_no_runs() {
    let rows: Vec<Row> = (0..1_000).map(|row| (Some(0), Some(row * 7 % 500), Some(row))).collect();
    let parts = vec![vec![batch(&rows[..300]), batch(&rows[300..])], vec![batch(&rows)]];
    let sql = "SELECT bucket, count(*), sum(w) FROM readings GROUP BY 1 ORDER BY 1";
    assert_eq!(answer(&parts, sql, true).await.0, answer(&parts, sql, false).await.0);
}

#[tokio::test]
async fn states_that_grow_large_are_handed_on_soon() {
    let rows: Vec<Row> = (0..10_000).map(|row| (Some(0), Some(0), Some(row))).collect();
    let parts = vec![vec![batch(&rows); 200]];
    let of = async |aggregate: &str| {
        let sql = format!("EXPLAIN ANALYZE SELECT tenant, {aggregate} FROM readings GROUP BY 1");
        let (analyzed, _) = answer(&parts, &sql, true).await;
        let line = analyzed.lines().find(|line| line.contains("RunAggregate")).unwrap().to_owned();
        let batches = line.split_once("output_batches=").unwrap().1.split([',', ']']).next().unwrap();
        batches.parse::<usize>().unwrap()
    };
    // Two million values take 16 MB, in two parts.
    assert_eq!(of("avg(w)").await, 2);
    assert!(of("median(w)").await > 2);
}
