//! Questions are answered; nothing else is, and nothing outside the lake is read.

use super::*;
use crate::{ErrorKind, statement::SQL_BYTES_MAX};

#[tokio::test]
async fn statements_that_do_more_than_ask_are_refused() {
    let city = City::new().await;
    let query = city.query();
    for sql in [
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/zeugma-copy.csv'",
        "EXPLAIN COPY (SELECT 1) TO '/tmp/zeugma-copy.csv'",
        "INSERT INTO parking SELECT * FROM parking",
        "EXPLAIN INSERT INTO parking SELECT * FROM parking",
        "DELETE FROM parking",
        "UPDATE parking SET seq = 1",
        "DROP TABLE parking",
        "SET datafusion.execution.target_partitions = 1",
        "RESET datafusion.execution.target_partitions",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "BEGIN",
        "SELECT * INTO x FROM parking",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE parking",
    ] {
        let error = refused(&query, &Grant::All, sql).await;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{sql}: {error:?}");
        assert!(error.to_string().contains("only SELECT, EXPLAIN, SHOW and DESCRIBE"), "{error}");
    }
    assert_eq!(number(&query, &Grant::All, "SELECT count(*) FROM parking").await, 0);
}

#[tokio::test]
async fn files_and_urls_are_no_tables() {
    let city = City::new().await;
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'file:///etc/passwd'",
        "SELECT * FROM \"https://example.org/x.parquet\"",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/x.parquet')",
    ] {
        let error = refused(&city.query(), &Grant::All, sql).await;
        assert_eq!(error.kind(), ErrorKind::Invalid, "{sql}: {error:?}");
        assert!(!error.to_string().contains("root:"), "{error}");
    }
}

#[tokio::test]
async fn mistakes_keep_the_engines_words_and_place() {
    let city = City::new().await;
    let error = refused(&city.query(), &Grant::All, "SELECT occupied\nFROM parking").await;
    let Error::Sql { message, place } = &error else { panic!("{error:?}") };
    assert!(message.contains("occupied"), "{message}");
    assert_eq!(*place, Some((1, 8)));
    let error = refused(&city.query(), &Grant::All, "SELEC 1").await;
    assert!(error.to_string().contains("Line: 1, Column: 1"), "{error}");
    let error = refused(&city.query(), &Grant::All, "SELECT 1 / 0").await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
}

#[tokio::test]
async fn question_without_end_or_bottom_is_refused() {
    let city = City::new().await;
    let query = city.query();
    let long = format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX));
    assert_eq!(refused(&query, &Grant::All, &long).await.kind(), ErrorKind::TooLarge);
    let deep = format!("SELECT 1{}", "+1".repeat(300_000));
    assert_eq!(refused(&query, &Grant::All, &deep).await.kind(), ErrorKind::Limit);
    let casts = format!("SELECT 1{}", "::int".repeat(100_000));
    assert_eq!(refused(&query, &Grant::All, &casts).await.kind(), ErrorKind::Limit);
    let tests = format!("SELECT 1{}", " IS NULL".repeat(100_000));
    assert_eq!(refused(&query, &Grant::All, &tests).await.kind(), ErrorKind::Limit);
    let nested = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(refused(&query, &Grant::All, &nested).await.kind(), ErrorKind::Invalid);
    let many = (0..100).map(|n| format!("parking p{n}")).collect::<Vec<_>>().join(", ");
    assert_eq!(refused(&query, &Grant::All, &format!("SELECT 1 FROM {many}")).await.kind(), ErrorKind::Limit);
    // As deep as is allowed, on a thread as small as the program's.
    let allowed = format!("SELECT 1{}", "+1".repeat(990));
    assert_eq!(number(&query, &Grant::All, &allowed).await, 991);
}

#[tokio::test]
async fn question_that_takes_too_long_is_ended() {
    let city = City::new().await;
    let config = Config { time_max: std::time::Duration::from_millis(200), ..Config::default() };
    let query = Query::new(city.lake.clone(), None, config).unwrap();
    let sql = "SELECT count(*) FROM generate_series(1, 100000000000) a";
    let error = refused(&query, &Grant::All, sql).await;
    assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
}
