//! What one question may take.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn answer_that_nobody_reads_gives_its_place_back_in_time() {
    let city = City::new().await;
    let config = Config { running_max: 1, time_max: Duration::from_millis(300), ..Config::default() };
    let query = Query::new(city.lake.clone(), Some(city.tail.clone()), config).unwrap();
    let unread = query.ask(&Grant::All, Rows::default(), "SELECT * FROM generate_series(1, 9000000)").await;
    assert_eq!(number(&query, &Grant::All, "SELECT 1").await, 1);
    let error = unread.unwrap().collect().await.unwrap_err();
    assert!(matches!(error, Error::Limit(_)), "half an answer must not look like a whole one: {error:?}");
}

#[tokio::test]
async fn answer_has_a_largest_number_of_rows() {
    let city = City::new().await;
    let config = Config { rows_max: 100_000, ..Config::default() };
    let query = Query::new(city.lake.clone(), Some(city.tail.clone()), config).unwrap();
    let all = query.sql(&Grant::All, "SELECT * FROM generate_series(1, 100000)").await.unwrap();
    assert_eq!(all.iter().map(RecordBatch::num_rows).sum::<usize>(), 100_000);
    let error = refused(&query, &Grant::All, "SELECT * FROM generate_series(1, 100001)").await;
    assert!(matches!(error, Error::Limit(_)), "{error:?}");
}

#[tokio::test]
async fn question_holds_a_part_of_the_memory() {
    let city = City::new().await;
    let config = Config { memory_bytes_max_of_one: 1 << 20, ..Config::default() };
    let query = Query::new(city.lake.clone(), Some(city.tail.clone()), config).unwrap();
    let join = "SELECT count(*) FROM generate_series(1, 1000000) a (n) JOIN generate_series(1, 1000000) b (n) USING (n)";
    let error = refused(&query, &Grant::All, join).await;
    assert!(matches!(error, Error::Limit(_)), "{error:?}");
    assert_eq!(number(&city.query(), &Grant::All, join).await, 1_000_000);
}

#[tokio::test]
async fn tables_of_a_with_count_wherever_it_is_used() {
    let city = City::new().await;
    let doubled = |steps: usize, quote: &str| {
        let step = |step: usize| {
            let before = format!("{quote}t{step}{quote}");
            format!("t{} AS (SELECT a.n FROM {before} a, {before} b)", step + 1)
        };
        let steps: Vec<String> = (0..steps).map(step).collect();
        format!("WITH t0 AS (SELECT 1 AS n), {} SELECT count(*) FROM t{}", steps.join(", "), steps.len())
    };
    assert_eq!(number(&city.query(), &Grant::All, &doubled(3, "")).await, 1);
    for quote in ["", "\""] {
        let error = refused(&city.query(), &Grant::All, &doubled(30, quote)).await;
        assert!(matches!(error, Error::Limit(_)), "{error:?}");
    }
    // One step after the other is as many tables as the first has, and a long way to count in no depth.
    let chain = |steps: usize, first: &str| {
        let steps: Vec<String> = (0..steps).map(|n| format!("s{} AS (SELECT * FROM s{n})", n + 1)).collect();
        format!("WITH s0 AS ({first}), {} SELECT count(*) FROM s{}", steps.join(", "), steps.len())
    };
    let first = ["SELECT device FROM parking"; 6].join(" UNION ALL ");
    assert_eq!(number(&city.query(), &Grant::All, &chain(20, &first)).await, 0);
    let backwards = (0..30_000).map(|n| format!("a{n} AS (SELECT 1 FROM a{})", n + 1));
    let backwards = format!("WITH {} SELECT 1 FROM a0", backwards.collect::<Vec<_>>().join(", "));
    assert!(matches!(refused(&city.query(), &Grant::All, &backwards).await, Error::Limit(_)));
    let used_often = |times: usize| {
        let names: Vec<String> = (0..times).map(|n| format!("T t{n}")).collect();
        format!("WITH t AS (SELECT * FROM parking a, fleet b) SELECT count(*) FROM {}", names.join(", "))
    };
    assert_eq!(number(&city.query(), &Grant::All, &used_often(3)).await, 0);
    assert!(matches!(refused(&city.query(), &Grant::All, &used_often(33)).await, Error::Limit(_)));
}

#[tokio::test]
async fn values_that_are_as_long_as_a_number_says_are_bounded() {
    let city = City::new().await;
    city.commit("parking", vec![parking("lamia", "p1", 0..20_000)], 1).await;
    let query = city.query();
    for sql in [
        "SELECT repeat('x', 1000000000)",
        "SELECT repeat('x', 9000000000000000000)",
        "SELECT max(length(concat(repeat('x', 60000000), device))) FROM parking",
        "SELECT max(length(repeat(device, 1000000))) FROM parking",
        "SELECT max(length(rpad(device, seq + 1000000))) FROM (SELECT device, coalesce(seq, 0) AS seq FROM parking)",
    ] {
        let error = refused(&query, &Grant::All, sql).await;
        assert!(matches!(error, Error::Limit(_)), "{sql}: {error:?}");
    }
    assert_eq!(number(&query, &Grant::All, "SELECT length(repeat('ab', 8000))::bigint").await, 16_000);
    assert_eq!(
        number(&query, &Grant::All, "SELECT max(length(lpad(device, 10, '0')))::bigint FROM parking").await,
        10
    );
    for list in ["range(0, 1000000000)", "generate_series(0, 1000000000)", "array_repeat(1, 1000000000)"] {
        refused(&query, &Grant::All, &format!("SELECT {list}")).await;
    }
    assert_eq!(number(&query, &Grant::All, "SELECT sum(value) FROM generate_series(1, 100)").await, 5_050);
}
